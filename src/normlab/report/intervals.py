"""Means over seeds with 95 % intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from normlab.report.losses import Measure, loss_of
from normlab.report.rate_grid import BestRate, best_rate
from normlab.report.results import RunResult
from normlab.report.survival import CONFIDENCE
from normlab.report.units import bits_per_byte


@dataclass(frozen=True)
class Mean:
    """A mean over seeds; ``low`` and ``high`` bound it, and are None for one seed, which tells of no spread."""

    value: float
    low: float | None
    high: float | None
    num_seeds: int


@dataclass(frozen=True, kw_only=True)
class VariantLoss:
    """A variant at its own best rate. ``num_runs`` are those at that rate, ``num_dead`` of them died.

    ``final`` and ``best`` are validation losses in nats per token, after the last step and at the best checkpoint, of
    the runs that have one; a Mean's ``num_seeds`` says how many these are. In bits per byte where the bytes per token
    are known of all of them.
    """

    rate: BestRate
    num_runs: int
    num_dead: int
    final: Mean | None
    best: Mean | None
    final_bits_per_byte: Mean | None
    best_bits_per_byte: Mean | None


def mean_of(values: Sequence[float]) -> Mean | None:
    """Mean and t interval, mean ± t(n - 1) s / sqrt(n), which supposes that seeds scatter about normally.

    None for no value.
    """
    if not values:
        return None
    mean, error = float(np.mean(values)), None
    if len(values) > 1:
        t = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
        error = t * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Mean(mean, None if error is None else mean - error, None if error is None else mean + error, len(values))


def loss_at_best_rate(runs: Sequence[RunResult]) -> VariantLoss | None:
    """Of one variant's runs; None where none has a result."""
    rate = best_rate(runs)
    if rate is None:
        return None
    at_rate = [run for run in runs if run.lr == rate.lr]
    return VariantLoss(
        rate=rate,
        num_runs=len(at_rate),
        num_dead=sum(run.is_dead for run in at_rate),
        final=mean_of(list(losses_by_seed(at_rate, "final").values())),
        best=mean_of(list(losses_by_seed(at_rate, "best").values())),
        final_bits_per_byte=_mean_bits(at_rate, "final"),
        best_bits_per_byte=_mean_bits(at_rate, "best"),
    )


def losses_by_seed(runs: Sequence[RunResult], measure: Measure) -> dict[int, float]:
    """The losses of those runs of one arm that have one, by seed."""
    losses = {run.seed: loss_of(run, measure) for run in sorted(runs, key=lambda run: run.seed)}
    return {seed: loss for seed, loss in losses.items() if loss is not None}


def _mean_bits(runs: Sequence[RunResult], measure: Measure) -> Mean | None:
    measured = [(loss, run.bytes_per_token) for run in runs if (loss := loss_of(run, measure)) is not None]
    bits = [bits_per_byte(loss, size) for loss, size in measured]
    known = [value for value in bits if value is not None]
    return mean_of(known) if len(known) == len(bits) else None
