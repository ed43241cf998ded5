"""What the result of a step means for its run: spikes are counted, instabilities met as the policy wants."""

import math
from collections.abc import Callable

from normlab.core.records import Outcome
from normlab.train.instability import Action, Instability, OnInstability, Trouble
from normlab.train.outcome import StabilityMonitor
from normlab.train.settings import TrainerSettings
from normlab.train.spikes import SpikeCounter
from normlab.train.state import RunState
from normlab.train.step import StepResult

GoBack = Callable[[int], RunState | None]
"""Puts model and optimizer back to the newest checkpoint of at most the given step, and returns the state of then.

None where there is no such checkpoint; then nothing has changed.
"""

LEFT = "the loss has left for good"


class Stability:
    """Watches the steps of one run, and keeps what it sees in the run's state."""

    def __init__(
        self, settings: TrainerSettings, warmup_steps: int, policy: OnInstability, go_back: GoBack, state: RunState
    ):
        self._monitor = StabilityMonitor(settings.divergence, warmup_steps, state.history)
        self._spikes = SpikeCounter(settings.spikes, state.spikes)
        self._patience_steps = settings.divergence.patience_steps
        self._last_step = settings.steps
        self._policy = policy
        self._go_back = go_back
        self._state = state

    def after(self, step: int, result: StepResult) -> tuple[Outcome | None, tuple[str, ...]]:
        """The outcome if the run ends with this step, and what is to be said of the step."""
        spike = self._spikes.observe(step, result.loss)
        notes = () if spike is None else (str(spike),)
        unstable = self._monitor.observe(step, result)
        if unstable is not None and not self._is_known(unstable):
            what = LEFT if unstable == Outcome.DIVERGED else what_was_not_finite(result)
            action, said = self._act(Trouble(step, unstable, result.has_damaged_weights), what)
            notes += said
            if action == Action.STOPPED:
                return unstable, notes
        if step < self._last_step:
            return None, notes
        return unstable or Outcome.COMPLETED, notes

    def after_validation(
        self, step: int, val_loss: float, outcome: Outcome | None
    ) -> tuple[Outcome | None, tuple[str, ...]]:
        """The same, once the step has been validated: ``outcome`` is what it had come to before that."""
        if math.isfinite(val_loss) or outcome not in (None, Outcome.COMPLETED):
            return outcome, ()
        action, said = self._act(Trouble(step, Outcome.NONFINITE, False), f"the validation loss is {val_loss}")
        return (Outcome.NONFINITE, ()) if action == Action.STOPPED else (outcome, said)

    def _is_known(self, unstable: Outcome) -> bool:
        """A lost loss was decided on when the patience ended."""
        return unstable == Outcome.DIVERGED and self._state.history.steps_above > self._patience_steps

    def _act(self, trouble: Trouble, what: str) -> tuple[Action, tuple[str, ...]]:
        state, step, outcome = self._state, trouble.step, trouble.outcome
        action = Action.STOPPED  # after the last step there is nothing to go on or back for
        if step < self._last_step:
            action = self._policy(state.instabilities, trouble)
        back_to = None
        if action == Action.WENT_BACK:
            before = self._go_back(self._latest_harmless(trouble)) or self._go_back(step - 1)
            if before is None:
                action = Action.STOPPED
            else:
                back_to = before.step
                state.remember_only(before)
        event = Instability(step=step, outcome=outcome, what=what, action=action, back_to=back_to)
        state.instabilities.append(event)
        return action, () if action == Action.STOPPED else (_sentence(event),)

    def _latest_harmless(self, trouble: Trouble) -> int:
        """The last step that may have been taken before the trouble began.

        Where a return was followed by the next trouble after no more steps than it had made up for, the checkpoint that
        it went to was in trouble itself.
        """
        if trouble.outcome == Outcome.DIVERGED:
            return trouble.step - self._patience_steps
        last = next((event for event in reversed(self._state.instabilities) if event.back_to is not None), None)
        if last is None or last.back_to is None or trouble.step - last.step > last.step - last.back_to:
            return trouble.step - 1
        return last.back_to - 1


def _sentence(event: Instability) -> str:
    if event.back_to is not None:
        back = f"training went back to the weights of step {event.back_to} and past the batches up to {event.step}"
        return f"{event.what}; {back}"
    return f"{event.what}; training goes on"


def what_was_not_finite(result: StepResult) -> str:
    """The first of loss, gradient and update that is not finite, in words."""
    if not math.isfinite(result.loss):
        return f"the training loss is {result.loss}"
    if not math.isfinite(result.grad_norm):
        return f"the gradient norm is {result.grad_norm}"
    return "the update has left weights that are not finite"
