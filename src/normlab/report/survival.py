"""How long runs stay alive.

The estimate of Kaplan and Meier (1958): S(t) is the product over the steps t_i <= t at which runs died of
1 - d_i / n_i, with d_i deaths among the n_i runs still under observation. A run that completed, was cut short or
still runs is censored: alive up to its last step, unknown after it.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from normlab.report.results import RunResult

CONFIDENCE = 0.95


@dataclass(frozen=True)
class SurvivalCurve:
    """S(t) as a step function: ``alive[i]`` from ``steps[i]`` on; it begins with 1 at step 0.

    ``low`` and ``high`` bound a pointwise 95 % interval (Greenwood's variance on the log(-log) scale, which stays
    within 0 and 1); NaN where the formula has none: before the first death, and after all have died.
    ``censored`` are the last steps of the runs that did not die, in order.
    """

    steps: Sequence[int]
    alive: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    censored: Sequence[int]
    num_runs: int
    num_dead: int


def survival_curve(runs: Sequence[RunResult]) -> SurvivalCurve:
    """The estimate over at least one run."""
    died = [run.steps for run in runs if run.is_dead]
    censored = sorted(run.steps for run in runs if not run.is_dead)
    survival = stats.ecdf(stats.CensoredData(uncensored=died, right=censored)).sf
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # says that there is no interval at some steps; so do the NaNs
        interval = survival.confidence_interval(CONFIDENCE, method="log-log")
    return SurvivalCurve(
        steps=[0, *(int(step) for step in survival.quantiles)],
        alive=[1.0, *survival.probabilities.tolist()],
        low=[np.nan, *interval.low.probabilities.tolist()],
        high=[np.nan, *interval.high.probabilities.tolist()],
        censored=censored,
        num_runs=len(runs),
        num_dead=len(died),
    )


def share_interval(num: int, among: int) -> tuple[float, float] | None:
    """The 95 % interval of a share after Clopper and Pearson (1934), which is exact; None of nothing."""
    if among == 0:
        return None
    interval = stats.binomtest(num, among).proportion_ci(CONFIDENCE, method="exact")
    return float(interval.low), float(interval.high)
