"""What the searches of several seeds say together of one variant's rates.

Rates are averaged by logarithm. A search knows a rate only up to the grid's step h = ln(10) / per_decade, so an
interval over seeds, mean ± t(n - 1) s / sqrt(n), is widened by what the grid leaves open; seeds that agree leave that.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from normlab.app.sweeps.rates import RateGrid
from normlab.app.sweeps.search import Found
from normlab.report.intervals import mean_of


@dataclass(frozen=True, kw_only=True)
class RateOverSeeds:
    """A rate over ``num_seeds``, of which ``num_below`` and ``num_above`` place it beyond the grid's ends.

    ``value`` is the geometric mean. Where a seed lies beyond, the grid does not say how far, so that there is no mean:
    ``value`` is then the median, None where that lies beyond as well. ``low`` and ``high`` bound a 95 % interval, None
    for one seed and where one lies beyond.
    """

    value: float | None
    low: float | None
    high: float | None
    num_seeds: int
    num_below: int
    num_above: int

    @property
    def text(self) -> str:
        """``0.0133 [0.0042, 0.056] (3 seeds)``, ``0.0133 (median of 3 seeds, 1 above the grid)``."""
        value = "beyond the grid" if self.value is None else f"{self.value:.3g}"
        interval = "" if self.low is None or self.high is None else f" [{self.low:.3g}, {self.high:.3g}]"
        seeds = f"{self.num_seeds} seed{'' if self.num_seeds == 1 else 's'}"
        below = f", {self.num_below} below the grid" if self.num_below else ""
        above = f", {self.num_above} above the grid" if self.num_above else ""
        return f"{value}{interval} ({'median of ' if below or above else ''}{seeds}{below}{above})"


def stable_rate_over_seeds(found: Sequence[Found], grid: RateGrid) -> RateOverSeeds | None:
    """Where survival ends, by the searches that are complete; None where none is.

    It lies between a seed's last living and first dead rate, which are a step apart: their middle is averaged, and
    half a step left open.
    """
    edges = [one.frontier for one in found if one.is_complete]
    middles = [
        -math.inf if edge.lr is None else math.inf if edge.next_dead is None else _log_middle(edge.lr, edge.next_dead)
        for edge in edges
    ]
    return _over_seeds(middles, left_open=_step(grid) / 2)


def best_rate_over_seeds(found: Sequence[Found], grid: RateGrid) -> RateOverSeeds | None:
    """Where the loss is lowest, by the searches that are complete; None where none is.

    It lies between the neighbours of a seed's best rate: a step to each side is left open. One at an edge of the grid,
    and one of a seed that died at all rates, may lie beyond it and is taken to.
    """
    beyond = {"lowest": -math.inf, "highest": math.inf}
    logs = [
        -math.inf if one.best_lr is None else beyond[one.edge] if one.edge is not None else math.log(one.best_lr)
        for one in found
        if one.is_complete
    ]
    return _over_seeds(logs, left_open=_step(grid))


def _over_seeds(logs: Sequence[float], left_open: float) -> RateOverSeeds | None:
    """Of natural logarithms, -inf and inf for beyond the grid."""
    if not logs:
        return None
    num_below, num_above = logs.count(-math.inf), logs.count(math.inf)
    mean = None if num_below or num_above else mean_of(logs)
    value = statistics.median(logs) if mean is None else mean.value
    return RateOverSeeds(
        value=math.exp(value) if math.isfinite(value) else None,
        low=None if mean is None or mean.low is None else math.exp(mean.low - left_open),
        high=None if mean is None or mean.high is None else math.exp(mean.high + left_open),
        num_seeds=len(logs),
        num_below=num_below,
        num_above=num_above,
    )


def _step(grid: RateGrid) -> float:
    return math.log(10) / grid.per_decade


def _log_middle(low: float, high: float) -> float:
    return (math.log(low) + math.log(high)) / 2
