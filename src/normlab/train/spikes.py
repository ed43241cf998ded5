"""Loss spikes: a loss that leaps above its course and comes back."""

import math
from dataclasses import dataclass, field

from normlab.core.types import Decay, Positive


@dataclass(frozen=True, kw_only=True)
class SpikeCriterion:
    """When a loss counts as a spike.

    It begins with a loss above m + ``deviations`` s, the mean m and standard deviation s of the losses before it, both
    exponential moving averages with weight ``smoothing`` on the past, and ends with the first loss that is not above
    that bound. Only then does it count: one that never ends is divergence.
    """

    deviations: Positive
    smoothing: Decay


@dataclass(frozen=True, kw_only=True)
class Spike:
    """A spike that recovered: its first step, the first step after it, its highest loss and the mean before it."""

    first_step: int
    recovered_step: int
    peak: float
    before: float

    def __str__(self) -> str:
        return (
            f"a loss spike, from {self.before:.3g} to {self.peak:.3g}, began at step {self.first_step} "
            f"and has recovered at step {self.recovered_step}"
        )


@dataclass
class SpikeHistory:
    """What the counter remembers of the finite losses so far, and what it has counted.

    ``weight`` is that of the moving averages, 1 - smoothing^n after n losses. While a spike lasts, the averages rest.
    """

    mean: float = 0.0
    square: float = 0.0
    weight: float = 0.0
    first_step: int | None = None
    peak: float = -math.inf
    recovered: list[Spike] = field(default_factory=list)


class SpikeCounter:
    """Watches the training loss; :class:`SpikeCriterion` states the rule."""

    def __init__(self, criterion: SpikeCriterion, history: SpikeHistory):
        self.criterion = criterion
        self.history = history

    def observe(self, step: int, loss: float) -> Spike | None:
        """The spike that this step's loss is the end of; a loss that is not finite is passed over."""
        if not math.isfinite(loss):
            return None
        history = self.history
        if loss > self._bound():
            history.first_step = step if history.first_step is None else history.first_step
            history.peak = max(history.peak, loss)
            return None
        spike = None
        if history.first_step is not None:
            before = history.mean / history.weight
            spike = Spike(first_step=history.first_step, recovered_step=step, peak=history.peak, before=before)
            history.recovered.append(spike)
            history.first_step, history.peak = None, -math.inf
        past = self.criterion.smoothing
        history.mean = past * history.mean + (1 - past) * loss
        history.square = past * history.square + (1 - past) * loss**2
        history.weight = past * history.weight + (1 - past)
        return spike

    def _bound(self) -> float:
        """Infinite until half of the averages' weight comes from losses: before that there is no course to leave."""
        history = self.history
        if history.weight < 1 / 2:
            return math.inf
        mean = history.mean / history.weight
        variance = max(history.square / history.weight - mean**2, 0.0)
        return mean + self.criterion.deviations * math.sqrt(variance)
