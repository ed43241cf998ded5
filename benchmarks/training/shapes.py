"""What is trained: the sizes of the table, one configuration a row, and how the project composes it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from hydra import compose
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch.utils.flop_counter import FlopCounterMode

from normlab.app.build import build_model
from normlab.model.attention import attention_spelt_out

VOCAB_SIZE = {"tiny": 1024, "handout": 10_000}
CONTEXTS = {"tiny": (128, 256), "handout": (256,)}
NORMS, CLAMPS = ("rmsnorm", "none"), ("none", "hard")


@dataclass(frozen=True)
class Shape:
    """One configuration: a size, and what its arms differ in. ``name`` is the option of the group ``model``."""

    name: str
    context: int
    batch_size: int
    norm: str
    clamp: str

    def __str__(self) -> str:
        return f"{self.name}, context {self.context}, batch {self.batch_size}, norm {self.norm}, clamp {self.clamp}"

    @property
    def vocab_size(self) -> int:
        return VOCAB_SIZE[self.name]

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.context

    def config(self, *overrides: str) -> DictConfig:
        """As the command line would compose it; needs Hydra to be initialised."""
        own = [
            f"model={self.name}",
            f"model.context_length={self.context}",
            f"model/norm={self.norm}",
            f"attention/clamp={self.clamp}",
            f"trainer.batch_size={self.batch_size}",
        ]
        return compose("config", [*own, *overrides])

    def batch(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Random tokens and their successors, the same for all contestants."""
        size = (self.batch_size, self.context + 1)
        tokens = torch.randint(self.vocab_size, size, generator=torch.Generator().manual_seed(0)).to(device)
        return tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()


def chosen_shapes(
    names: list[str], contexts: list[int], batch_sizes: list[int], norms: list[str], clamps: list[str]
) -> Iterator[Shape]:
    """The configurations of the table; an empty list of contexts stands for all of a size."""
    for name in names:
        for context in CONTEXTS[name]:
            if not contexts or context in contexts:
                for batch_size, norm, clamp in product(batch_sizes, norms, clamps):
                    yield Shape(name, context, batch_size, norm, clamp)


def flops_per_step(shape: Shape) -> int:
    """Of forward and backward pass of the plain model with explicit attention, counted on one sequence of the batch.

    The same number serves all contestants of a configuration: work that a contestant adds or saves is its own affair.
    """
    config, cpu = shape.config(), torch.device("cpu")
    model, loss = project_model(config, shape, cpu), instantiate(config.loss)
    tokens_BT, targets_BT = (tokens[:1] for tokens in shape.batch(cpu))
    with attention_spelt_out(model), FlopCounterMode(display=False) as counter:
        loss(model(tokens_BT), targets_BT).value.backward()
    return shape.batch_size * counter.get_total_flops()


def numbers_of(shape: Shape) -> dict[str, int | float]:
    """Width, hidden width, layers and heads of a size, and the clamp's limit (inf without one), for the peers."""
    config = shape.config()
    return {
        "width": config.model.width,
        "hidden_width": config.model.ffn.hidden_width,
        "num_layers": config.model.num_layers,
        "num_heads": config.model.num_heads,
        "limit": config.attention.clamp.get("limit", float("inf")),
    }


def project_model(config: DictConfig, shape: Shape, device: torch.device) -> torch.nn.Module:
    """The project's model, its weights drawn."""
    return build_model(config, shape.vocab_size, device)
