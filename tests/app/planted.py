"""An optimizer that, after some steps, also plants a cause of death: it spoils weights or moments in a known place.

It is part of the configuration, so that whoever takes the same steps again meets the same.
"""

import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, optim

from normlab.core.run_folder import RunFolder
from normlab.core.types import CountOrZero, Decay, NonNegative, Positive
from normlab.model.language_model import LanguageModel
from normlab.optim.adamw import adamw

SPACE = 32
"""A token of text, in bytes."""

SMALL = (
    "model=micro", "tokenizer=bytes", "trainer.val_tokens=256", "schedule.warmup_steps=1", "telemetry=none",
)  # fmt: skip
MORTAL = (
    "model/norm=layernorm", "model.norm.has_bias=true", "model.norm.eps=1e-300", "attention/softmax=naive",
    "loss=z_loss",
)  # fmt: skip
"""One architecture in which there is every way to die, so that it is compiled once."""

RUN, QUIET = "hydra.run.dir=run", "logger=none"
AGAIN = ("task=autopsy", "run=run", "trainer.device=cpu", "allow_targets=[tests]")
"""A run in the folder ``run``, and its autopsy once more."""

Plant = Callable[[LanguageModel, optim.Optimizer], None]


def planting_adamw(
    model: LanguageModel,
    *,
    lr: Positive,
    betas: tuple[Decay, Decay],
    eps: Positive,
    weight_decay: NonNegative,
    cause: str,
    after_step: CountOrZero,
) -> optim.AdamW:
    """AdamW, and the cause called ``cause`` right after a step; at once after step 0."""
    optimizer = adamw(model, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
    plant = torch.no_grad()(partial(PLANTS[cause], model, optimizer))
    if after_step == 0:
        plant()
    optimizer.register_step_post_hook(lambda *_: plant() if num_steps(optimizer) == after_step else None)
    return optimizer


def planted(cause: str, *, after_step: int = 2, steps: int = 4) -> tuple[str, ...]:
    """The overrides of a small run, data and logger aside, in which the cause of a death is planted."""
    target = f"{planting_adamw.__module__}.{planting_adamw.__name__}"
    optimizer = (f"optimizer._target_={target}", f"+optimizer.cause={cause}", f"+optimizer.after_step={after_step}")
    return (*SMALL, f"trainer.steps={steps}", *MORTAL, *optimizer, "allow_targets=[tests]")


def autopsy_of(run: RunFolder) -> dict[str, Any]:
    return json.loads(run.autopsy_json.read_text())


def num_steps(optimizer: optim.Optimizer) -> int:
    return int(next(iter(optimizer.state.values()))["step"])


def multiply(model: LanguageModel, factors: dict[str, float], rows: slice = slice(None)) -> None:
    for name, factor in factors.items():
        model.get_parameter(name)[rows] *= factor


def large_logits(model: LanguageModel, optimizer: optim.Optimizer) -> None:
    """Queries and keys of the second head of layer 1."""
    factors = {f"layers.1.attention.{name}.weight": 30.0 for name in ("query", "key")}
    multiply(model, factors, slice(16, None))


def large_product_of_queries_and_keys(model: LanguageModel, optimizer: optim.Optimizer) -> None:
    """Queries and keys of the first head of layer 1, so large that no float holds their product."""
    factors = {f"layers.1.attention.{name}.weight": 1e20 for name in ("query", "key")}
    multiply(model, factors, slice(16))


def stream_of_both_signs(model: LanguageModel, optimizer: optim.Optimizer, size: float = 3e38) -> None:
    """The feed-forward of layer 0 gives 3e38, every other channel -3e38, to every token: what comes next sums it."""
    path, ffn = "layers.0.ffn_path.input_norm", "layers.0.ffn"
    model.get_parameter(f"{path}.gain").zero_()
    model.get_parameter(f"{path}.bias").fill_(1.0)
    model.get_parameter(f"{ffn}.gate.weight")[0] = 1.0  # silu(32) = 32
    model.get_parameter(f"{ffn}.up.weight")[0] = 1 / 32
    down = model.get_parameter(f"{ffn}.down.weight").zero_()
    down[0::2, 0], down[1::2, 0] = size / 32, -size / 32


def stream_that_adds_up(model: LanguageModel, optimizer: optim.Optimizer) -> None:
    """Its sum is finite where neighbours are added, and not where first every other channel is."""
    stream_of_both_signs(model, optimizer, size=5e37)


def zero_row(model: LanguageModel, optimizer: optim.Optimizer) -> None:
    """The embedding of a token: nothing to divide by."""
    model.get_parameter("token_embedding.weight")[SPACE] = 0.0


def large_product(model: LanguageModel, optimizer: optim.Optimizer) -> None:
    multiply(model, {"layers.1.ffn.up.weight": 1e10, "layers.1.ffn.down.weight": 1e30})


def large_derivative(model: LanguageModel, optimizer: optim.Optimizer) -> None:
    """silu(g) * 0 = 0 on the way there; on the way back silu(g) meets what the last projection has enlarged."""
    model.get_parameter("layers.0.ffn.up.weight").zero_()
    multiply(model, {"layers.0.ffn.gate.weight": 1e10, "layers.0.ffn.down.weight": 1e38})


def large_gradient(model: LanguageModel, optimizer: optim.Optimizer) -> None:
    """A gradient that float32 holds, but not its square."""
    model.get_parameter("layers.0.ffn.up.weight").zero_()
    multiply(model, {"layers.0.ffn.down.weight": 1e30})


def large_moment(model: LanguageModel, optimizer: optim.Optimizer) -> None:
    """A first moment that dwarfs the root of the second."""
    _moment(model, optimizer).fill_(3e38)


def moment_not_a_number(model: LanguageModel, optimizer: optim.Optimizer) -> None:
    _moment(model, optimizer)[3, 4] = math.nan


def weight_not_a_number(model: LanguageModel, optimizer: optim.Optimizer) -> None:
    model.get_parameter("layers.1.ffn.up.weight")[3, 4] = math.nan


def large_logits_of_the_head(model: LanguageModel, optimizer: optim.Optimizer) -> None:
    """Logits that float32 holds, but not the square in the z-loss."""
    multiply(model, {"head.weight": 1e21})


def _moment(model: LanguageModel, optimizer: optim.Optimizer) -> Tensor:
    state: dict[str, Any] = optimizer.state[model.get_parameter("layers.1.ffn.up.weight")]
    return state["exp_avg"]


PLANTS: dict[str, Plant] = {
    plant.__name__: plant
    for plant in (
        large_logits, large_product_of_queries_and_keys, stream_of_both_signs, stream_that_adds_up, zero_row,
        large_product,        large_derivative, large_gradient, large_moment, moment_not_a_number, weight_not_a_number,
        large_logits_of_the_head,
    )
}  # fmt: skip
