"""What a statistic was before it grew, and from which reading on it stayed away from that."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MIN_FACTOR = 3.0
NUM_SPREADS = 4.0
MIN_WINDOW = 10
NORMAL_SPREAD = 1.4826
"""Times the median of absolute deviations: the standard deviation, where these are normal."""


class Departure(NamedTuple):
    """The baseline, and the position from which on all readings are above a factor of it."""

    baseline: float
    onset: int


def departure(values: NDArray[np.float64], harmless: float) -> Departure | None:
    """Where positive, finite values, in their order, left their baseline for good; None where they did not.

    What is at or below ``harmless`` has left nothing.

    The factor is ``MIN_FACTOR``, more for what is noisy: ``NUM_SPREADS`` times the spread from one reading to the next,
    on a logarithmic scale. From the onset on no reading lies at or below the baseline times the factor.
    The baseline is at first the median of all, so that a fresh network's growth, once over and settled for half the
    time, is no departure. Then it is the median of the readings before the onset, as many as from the onset on (at
    least ``MIN_WINDOW``), again and again while that moves the onset to an earlier reading.
    """
    if len(values) < 2:
        return None
    factor = max(MIN_FACTOR, math.exp(min(NUM_SPREADS * step_spread(np.log(values)), 700.0)))
    baseline = lower_median(values)
    onset = stays_above(values, max(baseline * factor, harmless))
    if onset is None:
        return None
    while True:
        window = values[max(0, onset - max(len(values) - onset, MIN_WINDOW)) : onset]
        nearer = lower_median(window)
        earlier = stays_above(values, max(nearer * factor, harmless))
        if earlier is None or earlier >= onset:
            return Departure(baseline, onset)
        baseline, onset = nearer, earlier


def stays_above(values: NDArray[np.float64], bound: float) -> int | None:
    """The position from which on all values are above a bound; None where the last one is not."""
    at_or_below = np.flatnonzero(values <= bound)
    onset = 0 if len(at_or_below) == 0 else int(at_or_below[-1]) + 1
    return onset if onset < len(values) else None


def lower_median(values: NDArray[np.float64]) -> float:
    """The median; of an even number, the lower of the two in the middle."""
    return float(np.sort(values)[(len(values) - 1) // 2])


def step_spread(values: NDArray[np.float64]) -> float:
    """The standard deviation of the noise on a slow curve, from the median of the steps between neighbours."""
    if len(values) < 3:
        return 0.0
    return NORMAL_SPREAD * float(np.median(np.abs(np.diff(values)))) / math.sqrt(2)
