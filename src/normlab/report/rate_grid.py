"""Losses on a grid of learning rates and seeds, and what the grid says: the best rate, and the sensitivity to it.

Every loss here is min(final validation loss, loss at initialisation), a dead run's being the latter, so that no death
is dropped and a rate at which one seed died is not judged by the others alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from normlab.report.losses import capped_loss
from normlab.report.results import RunResult, SweepResult
from normlab.report.survival import CONFIDENCE
from normlab.report.variants import Variant, by_variant, rate_place

Edge = Literal["lowest", "highest"]
RESAMPLES = 9999
RESAMPLING_SEED = 0


@dataclass(frozen=True, kw_only=True)
class BestRate:
    """The rate of lowest mean loss among those for which the most seeds have a result.

    At an ``edge`` of the rates tried the best of all may lie beyond. It is chosen on the seeds whose losses are then
    reported, so these are a little too good; ``left_out_loss`` is free of that: the mean over seeds of the loss of
    each at the rate that is best for the others, None for one seed.
    """

    lr: float | None
    mean_loss: float
    num_seeds: int
    edge: Edge | None
    left_out_loss: float | None


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Learning-rate sensitivity in nats, with a 95 % interval over seeds, None for fewer than two."""

    value: float
    interval: tuple[float, float] | None
    rates: tuple[float, ...]
    seeds: tuple[int, ...]


def best_rate(runs: Sequence[RunResult]) -> BestRate | None:
    """Of one variant's runs; of equal rates the smaller. None where no run has a result."""
    losses: dict[float | None, dict[int, float]] = {}
    for run in sorted(runs, key=lambda run: rate_place(run.lr)):
        loss = capped_loss(run)
        if loss is not None:
            losses.setdefault(run.lr, {})[run.seed] = loss
    if not losses:
        return None
    num_seeds = max(len(by_seed) for by_seed in losses.values())
    covered = {lr: by_seed for lr, by_seed in losses.items() if len(by_seed) == num_seeds}
    chosen = _lowest(covered, exclude=None)
    tried = sorted({run.lr for run in runs if run.lr is not None})
    return BestRate(
        lr=chosen,
        mean_loss=float(np.mean(list(covered[chosen].values()))),
        num_seeds=num_seeds,
        edge=_edge(chosen, tried),
        left_out_loss=_left_out_loss(covered),
    )


def _edge(lr: float | None, tried: Sequence[float]) -> Edge | None:
    if len(tried) < 2 or lr not in (tried[0], tried[-1]):
        return None
    return "lowest" if lr == tried[0] else "highest"


def _lowest(losses: Mapping[float | None, Mapping[int, float]], exclude: int | None) -> float | None:
    """The rate of lowest mean over all seeds but one."""

    def mean(lr: float | None) -> float:
        return float(np.mean([loss for seed, loss in losses[lr].items() if seed != exclude]))

    return min(losses, key=mean)


def _left_out_loss(losses: Mapping[float | None, Mapping[int, float]]) -> float | None:
    seeds = set.intersection(*(set(by_seed) for by_seed in losses.values()))
    if len(seeds) < 2:
        return None
    return float(np.mean([losses[_lowest(losses, exclude=seed)][seed] for seed in sorted(seeds)]))


def sensitivities(sweep: SweepResult) -> dict[Variant, Sensitivity | None]:
    """Of each variant, over the rates that were tried with all of them, so that they can be compared."""
    grouped = by_variant(sweep)
    tried = [{run.lr for run in [*sweep.runs, *sweep.not_begun] if _is_of(run, variant)} for variant in grouped]
    rates = sorted(lr for lr in set.intersection(*tried) if lr is not None) if tried else []
    return {variant: sensitivity(runs, rates) for variant, runs in grouped.items()}


def sensitivity(runs: Sequence[RunResult], rates: Sequence[float]) -> Sensitivity | None:
    """E over the rates of min(loss, initial loss), less the lowest over the rates (Wortsman et al. 2023, section 2.2).

    The losses are means over the seeds that have a result at every rate; None without such a seed, or for fewer than
    two rates. The interval is the percentile bootstrap over seeds, whole rows at a time, from a fixed generator. With
    the three to five seeds of most sweeps such an interval is too narrow: it shows the spread, it proves nothing.
    """
    losses = grid_of(runs, rates)
    if len(rates) < 2 or not losses:
        return None
    table = np.array(list(losses.values()))
    return Sensitivity(
        value=float(_sensitivity_of(table, np.arange(len(table)))),
        interval=_interval(table),
        rates=tuple(rates),
        seeds=tuple(losses),
    )


def grid_of(runs: Sequence[RunResult], rates: Sequence[float]) -> dict[int, list[float]]:
    """The capped losses at these rates of each seed that has all of them."""
    found = {(run.seed, run.lr): capped_loss(run) for run in runs}
    seeds = sorted({run.seed for run in runs})
    rows = {seed: [found.get((seed, lr)) for lr in rates] for seed in seeds}
    return {seed: [x for x in row if x is not None] for seed, row in rows.items() if None not in row}


def _interval(losses: np.ndarray) -> tuple[float, float] | None:
    if len(losses) < 2:
        return None

    def of_seeds(seeds: np.ndarray, axis: int) -> np.ndarray:
        return _sensitivity_of(losses, np.moveaxis(seeds, axis, -1))

    bounds = stats.bootstrap(
        (np.arange(len(losses)),), of_seeds, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile",
        vectorized=True, rng=np.random.default_rng(RESAMPLING_SEED),
    ).confidence_interval  # fmt: skip
    return float(bounds.low), float(bounds.high)


def _sensitivity_of(losses: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """From losses by seed and rate and the seeds to take, which are along the last axis."""
    means = losses[seeds].mean(axis=-2)
    return means.mean(axis=-1) - means.min(axis=-1)


def _is_of(run: RunResult, variant: Variant) -> bool:
    return tuple(run.choices.items()) == variant
