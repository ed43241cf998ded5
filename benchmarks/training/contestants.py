"""A contestant is a step that can be taken again and again: a model, its settings, and AdamW.

A step is zero_grad, forward, loss, backward, clipping of the gradient at norm 1, AdamW. The loss is the mean
cross-entropy in float32, for peers inside the compiled graph, as it is for the project.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from hydra.utils import instantiate
from torch import Tensor, nn, optim
from torch.nn import functional

from normlab.app.build import build_optimizer
from normlab.train.backpropagation import Backpropagation, Batch, objective_of
from normlab.train.hardware import autocast
from normlab.train.step import training_step
from training.peers import PEERS, student_as_written
from training.shapes import Shape, project_model

LR = 1e-4
AUTO, EAGER, AS_WRITTEN = "normlab, trainer=auto", "normlab, float32 eager", "student, as written"
PROJECT_BEST = "normlab, best settings"


@dataclass(frozen=True)
class Settings:
    """``compile``: a mode of torch.compile, or "" for none."""

    precision: str
    compile: str
    fused_optimizer: bool = True

    def __str__(self) -> str:
        mode = {"": "eager", "default": "compiled"}.get(self.compile, f"compiled, {self.compile}")
        return f"{self.precision}, {mode}" + ("" if self.fused_optimizer else ", AdamW not fused")


CPU_SETTINGS = [Settings(precision, mode) for mode in ("default", "") for precision in ("float32", "bfloat16")]
CUDA_MODES = ("default", "max-autotune-no-cudagraphs", "reduce-overhead", "")
CUDA_SETTINGS = [Settings("bfloat16", mode) for mode in CUDA_MODES]
"""On CUDA float32 has no chance, and its trial costs as much as the others'."""


@dataclass(frozen=True)
class Contestant:
    """``step`` trains once and returns the loss; ``peak_bytes`` is told on CUDA only."""

    name: str
    settings: str
    num_parameters: int
    step: Callable[[], Tensor | float]
    peak_bytes: int | None = None

    def check(self) -> None:
        """Raise where training has left the finite numbers, with which no speed means anything."""
        loss = float(self.step())
        if not math.isfinite(loss):
            raise ArithmeticError(f"{self.name} trains to a loss of {loss}: its speed means nothing.")


def entered(name: str, settings: Settings | None, shape: Shape, device: torch.device) -> Contestant:
    """A contestant by name; the project's own settings are its trainer's."""
    torch.manual_seed(0)
    if name in (AUTO, EAGER):
        return _project(name, shape, device)
    assert settings is not None
    if name == PROJECT_BEST:
        return _project(name, shape, device, settings)
    return _peer(name, settings, shape, device)


def _project(name: str, shape: Shape, device: torch.device, settings: Settings | None = None) -> Contestant:
    """The project's model, passes and step, as its trainer takes them."""
    trainer = "default" if name == EAGER else "auto"
    config = shape.config(f"trainer={trainer}", f"trainer.device={device.type}")
    asked = config.trainer
    mode = "default" if asked.compile else ""
    mode = "reduce-overhead" if mode and device.type == "cuda" and asked.get("cuda_graphs", False) else mode
    settings = settings or Settings(asked.precision, mode)
    model = project_model(config, shape, device)
    optimizer = build_optimizer(config, model)  # type: ignore[arg-type]
    passes = Backpropagation(
        model,
        instantiate(config.loss),
        precision=autocast(device, settings.precision),
        compile=settings.compile != "",
    )
    if settings.compile not in ("", "default"):
        passes._objective_of = _objective_in_mode(settings.compile)
    batch = Batch(*shape.batch(device))

    def step() -> float:
        return training_step(model, optimizer, passes, batch, lr=LR, grad_clip=1.0).loss

    return Contestant(name, str(settings), _num_parameters(model), step)


@cache
def _objective_in_mode(mode: str) -> Callable:
    return torch.compile(objective_of, dynamic=False, mode=mode)


def _peer(name: str, settings: Settings, shape: Shape, device: torch.device) -> Contestant:
    """A peer's model in the usual loop."""
    build = student_as_written if name == AS_WRITTEN else PEERS[name]
    model = build(shape).to(device)
    groups = [
        {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizer = optim.AdamW(groups, lr=LR, betas=(0.9, 0.95), fused=settings.fused_optimizer or None)
    tokens_BT, targets_BT = shape.batch(device)

    def objective(tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
        return functional.cross_entropy(model(tokens_BT).float().flatten(0, -2), targets_BT.flatten())

    loss_of = torch.compile(objective, dynamic=False, mode=settings.compile) if settings.compile else objective
    precision = autocast(device, settings.precision)

    def step() -> Tensor:
        if settings.compile == "reduce-overhead":
            torch.compiler.cudagraph_mark_step_begin()
        optimizer.zero_grad(set_to_none=True)
        with precision:
            loss = loss_of(tokens_BT, targets_BT)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.detach()

    return Contestant(name, str(settings), _num_parameters(model), step)


def _num_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
