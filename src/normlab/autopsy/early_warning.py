"""A warning while training: a statistic grows exponentially towards the end of its arithmetic, and when it gets there.

Only limits of the arithmetic are forecast, for beyond them nothing can be finite. Levels that merely look bad (large
attention logits, low entropy, a large gradient norm) are none: runs live on beyond all of them.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from normlab.autopsy.growth import Criteria, exponential_fit
from normlab.autopsy.limits import LARGEST_EXPONENT
from normlab.autopsy.statistic_words import statistic_of
from normlab.autopsy.story import Series
from normlab.autopsy.thresholds import harmless_level
from normlab.core.records import StepRecord, decode_number

KEPT_READINGS = 256
CRITERIA = Criteria(min_readings=8, min_r_squared=0.9, min_doublings=2.0, steadiness=0.5)
REACH = 2.0
PATIENCE = 5
CHANGE = 0.5


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """Read at ``step``: a statistic will pass its limit at about ``crosses_at`` if it keeps doubling at this rate."""

    tag: str
    layer: int | None
    limit: float
    step: int
    crosses_at: int
    doubling_steps: float

    def __str__(self) -> str:
        """One sentence, without an end: whoever logs it says at which step."""
        remaining = max(self.crosses_at - self.step, 1)
        end = "the exponential's" if self.limit == LARGEST_EXPONENT else "float32's"
        return (
            f"{statistic_of(self.tag)} will pass {end} limit ({self.limit:.3g}) in about {remaining} "
            f"step{'s' if remaining > 1 else ''} (doubling every {self.doubling_steps:.2g} steps)"
        )


class EarlyWarning:
    """Fed the records of a run one after the other, it says when an overflow comes into sight.

    A forecast stands on the last ``KEPT_READINGS`` readings of a statistic, on the stretch of them up to now that fits
    best among those that ``CRITERIA`` accept, and looks ahead at most ``REACH`` times as far as that stretch looks
    back. What is still at a level that healthy networks have is not forecast: a small initialisation grows
    exponentially too. It is given once; again only where the steps that remained have changed by a share of more than
    ``CHANGE``, or after it was withdrawn: after ``PATIENCE`` readings in a row that bore none out, or one that is not
    finite or not above zero. A run that goes back is read from there. Warnings are a function of
    the records alone: fed those of a run's metrics.jsonl, it stands where it stood.
    """

    def __init__(self, limits: Callable[[str], float | None]):
        self._limits = limits
        self._watched: dict[str, _Watched | None] = {}

    def observed(self, records: Iterator[StepRecord]) -> Iterator[StepRecord]:
        """The records, with what each brings into sight among its notes."""
        for record in records:
            notes = tuple(str(forecast) for forecast in self.observe(record))
            yield replace(record, notes=record.notes + notes)

    def observe(self, record: StepRecord) -> list[Forecast]:
        """What the record of a step brings into sight."""
        return self._take(record.step, {"grad_norm": record.grad_norm, **record.telemetry})

    def remember(self, record: Mapping[str, Any]) -> None:
        """Take a past record as metrics.jsonl has it; what it brought into sight was said then."""
        self._take(record["step"], record)

    def _take(self, step: int, readings: Mapping[str, Any]) -> list[Forecast]:
        found = (
            watched.take(step, decode_number(readings[tag]))
            for tag in readings
            if (watched := self._watched_of(tag)) is not None
        )
        return [forecast for forecast in found if forecast is not None]

    def _watched_of(self, tag: str) -> "_Watched | None":
        if tag not in self._watched:
            limit = None if "/head_" in tag else self._limits(tag)
            self._watched[tag] = None if limit is None else _Watched(tag, limit)
        return self._watched[tag]


class _Watched:
    """The last readings of one statistic, and the forecast that stands."""

    def __init__(self, tag: str, limit: float):
        self.tag = tag
        self.limit = limit
        self._steps: deque[int] = deque(maxlen=KEPT_READINGS)
        self._values: deque[float] = deque(maxlen=KEPT_READINGS)
        self._given: Forecast | None = None
        self._num_unconfirmed = 0

    def take(self, step: int, value: float) -> Forecast | None:
        """The forecast that this reading gives rise to, if it is news."""
        while self._steps and self._steps[-1] >= step:  # the run went back
            self._steps.pop()
            self._values.pop()
        if not (math.isfinite(value) and value > 0):
            self._steps.clear()
            self._values.clear()
            self._given = None
            return None
        self._steps.append(step)
        self._values.append(value)
        forecast = self._forecast()
        if forecast is None:
            self._num_unconfirmed += 1
            if self._num_unconfirmed >= PATIENCE:
                self._given = None
            return None
        self._num_unconfirmed = 0
        if self._given is not None and not _differ(self._given, forecast):
            return None
        self._given = forecast
        return forecast

    def _forecast(self) -> Forecast | None:
        last = self._values[-1]
        if len(self._values) < CRITERIA.min_readings or not harmless_level(self.tag) < last < self.limit:
            return None
        if math.log(self.limit / last) > 2 * REACH * math.log(last / min(self._values)):
            return None  # no fit to these readings can reach so far: spared, for most readings are like this
        series = Series(np.array(self._steps, dtype=np.int64), np.array(self._values))
        fit = exponential_fit(series, CRITERIA)
        if fit is None:
            return None
        crosses_at = fit.crosses_at(self.limit)
        if crosses_at - fit.last_step > REACH * (fit.last_step - fit.first_step):
            return None
        return Forecast(
            tag=self.tag,
            layer=statistic_of(self.tag).layer,
            limit=self.limit,
            step=fit.last_step,
            crosses_at=max(math.ceil(crosses_at), fit.last_step + 1),
            doubling_steps=fit.doubling_steps,
        )


def _differ(given: Forecast, new: Forecast) -> bool:
    """Whether the steps that remain are now a different number, by a share of those that remained when it was given."""
    return abs(new.crosses_at - given.crosses_at) > CHANGE * (given.crosses_at - given.step)
