"""The knobs of the training loop (config group ``trainer``)."""

from dataclasses import dataclass
from typing import Literal

from normlab.core.types import Count, CountOrZero, Decay, Positive
from normlab.train.spikes import SpikeCriterion


@dataclass(frozen=True, kw_only=True)
class DivergenceCriterion:
    """When a finite loss counts as diverged.

    After warmup, the smoothed training loss must stay above the loss at initialisation, or above its own running
    minimum by ``margin_nats``, for ``patience_steps`` steps in a row. The smoothed loss is an exponential moving
    average with weight ``smoothing`` on the past, corrected for its start.
    """

    margin_nats: Positive
    patience_steps: Count
    smoothing: Decay


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How long, how much at a time, how often to look, and on what hardware.

    ``global_batch`` is in sequences a step, over all devices; null is ``batch_size``, of which a device takes no more
    at a time: what is more comes one after the other. Windows are drawn with or without replacement; ``grad_clip`` is
    the largest gradient norm, null for no clipping; ``val_every`` and ``checkpoint_every`` are in steps (0: only at the
    end), and a validation takes ``val_tokens`` tokens, always the same. ``device=auto`` takes CUDA, then MPS, then
    the CPU; ``precision=bfloat16`` means autocast over float32 weights. ``cuda_graphs`` is for compiled runs on CUDA
    whose kernels are so small that launching them takes the time. ``parallel`` is how one run has several devices: each
    with all weights (ddp) or with some of them (fsdp).
    """

    steps: Count
    batch_size: Count
    global_batch: Count | None
    sampling: Literal["with_replacement", "without_replacement"]
    grad_clip: Positive | None
    val_every: Count
    val_tokens: Count
    checkpoint_every: CountOrZero
    divergence: DivergenceCriterion
    spikes: SpikeCriterion
    device: str
    precision: Literal["float32", "bfloat16"]
    compile: bool
    cuda_graphs: bool
    parallel: Literal["none", "ddp", "fsdp"]

    @property
    def sequences_per_step(self) -> int:
        """Over all devices."""
        return self.batch_size if self.global_batch is None else self.global_batch
