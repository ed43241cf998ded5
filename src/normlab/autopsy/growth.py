"""Where a statistic really grew exponentially: the fit, and the readings that it may use."""

import math
from dataclasses import dataclass

import numpy as np

from normlab.autopsy.story import ExponentialFit, Series

LN_2 = math.log(2)
LEAST_READINGS = 4
"""Two for each half."""
LEAST_UNEXPLAINED = 1e-6
"""Stretches that leave less than this share of the variance unexplained are equally good: the longest is taken."""


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """When readings count as exponential growth.

    At least ``min_readings`` (4 or more), at most a share 1 - ``min_r_squared`` of the variance of their logarithms
    unexplained, the curve rising by ``min_doublings``. ``steadiness``, within (0, 1): the rates fitted to the earlier
    and to the later half are both positive, and neither is smaller than the other by more than this factor. A line
    through zero slows down on a logarithmic axis, a plateau before the growth speeds up: both fail it where they would
    bend the fit.
    """

    min_readings: int
    min_r_squared: float
    min_doublings: float
    steadiness: float


def usable(series: Series) -> Series:
    """The finite readings above zero: what has a logarithm."""
    is_usable = np.isfinite(series.values) & (series.values > 0)
    return Series(series.steps[is_usable], series.values[is_usable])


def exponential_fit(series: Series, criteria: Criteria) -> ExponentialFit | None:
    """The fit to a stretch of readings up to the last one; None where the criteria accept none.

    Of the accepted stretches, from whichever reading on, it is the one whose rate stands out most from its error:
    the largest t² = (n - 2) R² / (1 - R²), which grows with the stretch until what is no part of the growth spoils
    R². Readings that are not finite or not positive are left out.
    """
    series = usable(series)
    num_readings = len(series.values)
    if num_readings < max(criteria.min_readings, LEAST_READINGS):
        return None
    x = (series.steps - series.steps[-1]).astype(np.float64)
    y = np.log(series.values)
    moments = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y])
    moments = np.concatenate([np.cumsum(moments[:, ::-1], axis=1)[:, ::-1], np.zeros((6, 1))], axis=1)
    starts = np.arange(num_readings - max(criteria.min_readings, LEAST_READINGS) + 1)
    middles = (starts + num_readings) // 2
    rates, intercepts, r_squared = _least_squares(moments[:, starts])
    early_rates, _, _ = _least_squares(moments[:, starts] - moments[:, middles])
    late_rates, _, _ = _least_squares(moments[:, middles])
    is_accepted = (
        (r_squared >= criteria.min_r_squared)
        & (rates * -x[starts] >= criteria.min_doublings * LN_2)
        & (rates > 0)
        & (np.minimum(early_rates, late_rates) >= criteria.steadiness * np.maximum(early_rates, late_rates))
    )
    if not is_accepted.any():
        return None
    t_squared = (moments[0, starts] - 2) * r_squared / np.maximum(1 - r_squared, LEAST_UNEXPLAINED)
    start = int(np.argmax(np.where(is_accepted, t_squared, 0.0)))
    rate = float(rates[start])
    return ExponentialFit(
        rate=rate,
        doubling_steps=LN_2 / rate,
        r_squared=float(r_squared[start]),
        first_step=int(series.steps[start]),
        last_step=int(series.steps[-1]),
        value_at_last=math.exp(min(float(intercepts[start]), LARGEST_EXPONENT)),
    )


LARGEST_EXPONENT = 700.0
"""exp of it is finite in float64; a curve that overshoots its last readings of 1e308 is cut there."""


def _least_squares(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slope, value at x = 0 and R², by column, from the sums of 1, x, y, xx, xy and yy; a constant y has R² 0."""
    n, x, y, xx, xy, yy = moments
    spread_x = xx - x * x / n
    spread_y = np.maximum(yy - y * y / n, 0.0)
    joint = xy - x * y / n
    slope = joint / spread_x
    is_flat = spread_y <= ROUNDING * np.maximum(yy, 1.0)
    r_squared = np.where(is_flat, 0.0, slope * joint / np.where(is_flat, 1.0, spread_y))
    return slope, (y - slope * x) / n, r_squared


ROUNDING = 1e-12
"""Of the sum of squares, what cancellation leaves of a spread that is none."""
