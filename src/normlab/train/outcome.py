"""When a run has failed: a non-finite number at once, a lost loss after some patience."""

from normlab.core.records import Outcome
from normlab.train.settings import DivergenceCriterion
from normlab.train.state import LossHistory
from normlab.train.step import StepResult


class StabilityMonitor:
    """Watches the results of steps; :class:`DivergenceCriterion` states the rule."""

    def __init__(self, criterion: DivergenceCriterion, warmup_steps: int, history: LossHistory):
        self.criterion = criterion
        self.warmup_steps = warmup_steps
        self.history = history

    def observe(self, step: int, result: StepResult) -> Outcome | None:
        """The outcome that this step decides, or None while the run is alive."""
        if not result.is_finite:
            return Outcome.NONFINITE
        loss = result.loss
        history, past = self.history, self.criterion.smoothing
        if history.initial_loss is None:
            history.initial_loss = loss
        history.average = past * history.average + (1 - past) * loss
        history.weight = past * history.weight + (1 - past)
        smoothed = history.average / history.weight
        history.lowest = min(history.lowest, smoothed)
        bound = min(history.initial_loss, history.lowest + self.criterion.margin_nats)
        is_lost = step > self.warmup_steps and smoothed > bound
        history.steps_above = history.steps_above + 1 if is_lost else 0
        return Outcome.DIVERGED if history.steps_above >= self.criterion.patience_steps else None
