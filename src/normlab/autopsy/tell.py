"""The story before a death, from what was read of a run up to its end."""

import re
from collections.abc import Iterator

import numpy as np

from normlab.autopsy.baseline import departure, lower_median, stays_above, step_spread
from normlab.autopsy.growth import Criteria, exponential_fit, usable
from normlab.autopsy.limits import Limits
from normlab.autopsy.story import Crossing, Growth, History, Series, Story
from normlab.autopsy.thresholds import Threshold, harmless_level, thresholds

TELLING = re.compile(
    r"grad_norm(/\w+)?|(attention_logit_max|attention_entropy)/layer_\d+|(activation_rms|activation_absmax|gradient_rms)"
    r"/\w+(/layer_\d+)?|(update_ratio|weight_norm)/\w+"
)
"""The statistics whose growth is told: whole layers, sites and roles, not single heads and not roles by layer."""

FALLING = "attention_entropy"
"""Its growth is that of its reciprocal."""

CRITERIA = Criteria(min_readings=5, min_r_squared=0.8, min_doublings=2.0, steadiness=0.5)

LOSS_SPREADS = 5.0
LOSS_WINDOW = 20
MIN_RISE = 0.02


def tell(history: History, end_step: int, limits: Limits) -> Story:
    """What grew, and what crossed a threshold, in the steps up to ``end_step``.

    A statistic has grown that for good left its baseline (``normlab.autopsy.baseline``) and what healthy networks have
    (``HARMLESS``), and that at its last finite reading is at least half as large as it ever was: neither what grew and
    came down again is told, nor a small initialisation's way up. Growths begin where both were left; of those that
    begin at the same step the one that grew most comes first. Of each threshold only the place where it was crossed
    first is told: "in which layer first".
    """
    history = {tag: _upto(series, end_step) for tag, series in history.items()}
    growths = (_growth(tag, series, limits) for tag, series in history.items() if TELLING.fullmatch(tag))
    found = [growth for growth in growths if growth is not None]
    crossings = [crossing for threshold in thresholds(limits) for crossing in _first_crossing(threshold, history)]
    return Story(
        end_step=end_step,
        loss_shows_at=_loss_shows_at(history["train_loss"]) if "train_loss" in history else None,
        growths=tuple(sorted(found, key=lambda growth: (growth.began_at, -_times(growth), growth.tag))),
        crossings=tuple(sorted(crossings, key=lambda crossing: crossing.step)),
    )


def _growth(tag: str, series: Series, limits: Limits) -> Growth | None:
    series = usable(series)
    rising = Series(series.steps, 1 / series.values) if tag.startswith(FALLING) else series
    left = departure(rising.values, harmless_level(tag))
    if left is None or rising.values[-1] < rising.values[left.onset :].max() / 2:
        return None
    fit = exponential_fit(rising, CRITERIA)
    limit = limits(tag)
    return Growth(
        tag=tag,
        began_at=int(series.steps[left.onset]),
        baseline=1 / left.baseline if tag.startswith(FALLING) else left.baseline,
        last=float(series.values[-1]),
        last_step=int(series.steps[-1]),
        fit=fit,
        limit=limit,
        crosses_at=None if fit is None or limit is None else fit.crosses_at(limit),
    )


def _first_crossing(threshold: Threshold, history: History) -> Iterator[Crossing]:
    """Where a threshold was crossed first, by the step and then by the order of the tags."""
    crossings = [
        crossing
        for tag, series in history.items()
        if tag.split("/")[0] == threshold.statistic and TELLING.fullmatch(tag)
        for crossing in _crossing(threshold, tag, series)
    ]
    if crossings:
        yield min(crossings, key=lambda crossing: crossing.step)


def _crossing(threshold: Threshold, tag: str, series: Series) -> Iterator[Crossing]:
    series = usable(series) if threshold.of_baseline else _finite(series)
    value = threshold.value
    if threshold.of_baseline:
        left = departure(series.values, harmless_level(tag))
        if left is None:
            return
        value = max(value * left.baseline, harmless_level(tag))
    onset = stays_above(-series.values, -value) if threshold.falling else stays_above(series.values, value)
    if onset is not None:
        yield Crossing(tag=tag, threshold=value, meaning=threshold.meaning, step=int(series.steps[onset]))


def _loss_shows_at(loss: Series) -> int | None:
    """The first step from which on the loss stays above its course; None where its last finite value is on it.

    Its course is the lowest median of ``LOSS_WINDOW`` readings in a row (of a quarter of them, if there are fewer),
    plus ``LOSS_SPREADS`` times the spread, from one reading to the next, of all readings up to those: what the loss did
    once it had left decides nothing. At least it is ``MIN_RISE`` of itself above.
    """
    loss = _finite(loss)
    num_readings = len(loss.values)
    width = min(LOSS_WINDOW, max(num_readings // 4, min(3, num_readings // 2)))
    if width == 0:
        return None
    windows = np.lib.stride_tricks.sliding_window_view(loss.values, width)
    medians = [lower_median(window) for window in windows]
    lowest = min(medians)
    last_on_course = len(medians) - 1 - medians[::-1].index(lowest) + width
    margin = max(LOSS_SPREADS * step_spread(loss.values[:last_on_course]), MIN_RISE * abs(lowest))
    onset = stays_above(loss.values, lowest + margin)
    return None if onset is None else int(loss.steps[onset])


def _upto(series: Series, end_step: int) -> Series:
    is_before = series.steps <= end_step
    return Series(series.steps[is_before], series.values[is_before])


def _finite(series: Series) -> Series:
    is_finite = np.isfinite(series.values)
    return Series(series.steps[is_finite], series.values[is_finite])


def _times(growth: Growth) -> float:
    """How many times larger, or for what falls smaller, than its baseline."""
    return max(growth.last / growth.baseline, growth.baseline / growth.last)
