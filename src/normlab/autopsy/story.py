"""What a run did before it died, as far as its statistics show: which of them grew, from when, how fast."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from numpy import float64, int64
from numpy.typing import NDArray


@dataclass(frozen=True)
class Series:
    """One statistic: the steps at which it was read, rising, and its values, finite or not."""

    steps: NDArray[int64]
    values: NDArray[float64]


History = Mapping[str, Series]
"""By the tags of metrics.jsonl: ``train_loss``, ``grad_norm``, ``attention_logit_max/layer_3``."""


@dataclass(frozen=True, kw_only=True)
class ExponentialFit:
    """value = value_at_last exp(rate * (step - last_step)), least squares of logarithms over first_step to last_step.

    The rate is above 0.
    """

    rate: float
    doubling_steps: float
    r_squared: float
    first_step: int
    last_step: int
    value_at_last: float

    def crosses_at(self, limit: float) -> float:
        """The step, a fraction of one included, at which the curve meets a limit."""
        return self.last_step + (math.log(limit) - math.log(self.value_at_last)) / self.rate


@dataclass(frozen=True, kw_only=True)
class Growth:
    """A statistic that left its baseline at ``began_at`` and did not come back.

    ``last`` is its last finite value, read at ``last_step``. ``crosses_at`` is where the fit meets ``limit``: None
    without one of both. An attention entropy falls: ``last`` is below ``baseline``, and the fit is of its reciprocal.
    """

    tag: str
    began_at: int
    baseline: float
    last: float
    last_step: int
    fit: ExponentialFit | None
    limit: float | None
    crosses_at: float | None


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A threshold that a statistic crossed for good, and what that means, in words."""

    tag: str
    threshold: float
    meaning: str
    step: int


@dataclass(frozen=True, kw_only=True)
class Story:
    """Growths and crossings, each earliest first; ``loss_shows_at`` is where the loss left its course for good."""

    end_step: int
    loss_shows_at: int | None
    growths: tuple[Growth, ...]
    crossings: tuple[Crossing, ...]

    @property
    def crossings_before_loss(self) -> tuple[Crossing, ...]:
        """Those that could have been seen before the loss showed anything."""
        return tuple(found for found in self.crossings if self.loss_shows_at is None or found.step < self.loss_shows_at)
