"""What is done about a step that is not finite, or a loss that has left for good (config group ``on_instability``)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol

from normlab.core.records import Outcome
from normlab.core.types import Count


class Action(StrEnum):
    """End the run; go on with the weights as they are; go back to a checkpoint's and past the batches since."""

    STOPPED = "stopped"
    WENT_ON = "went on"
    WENT_BACK = "went back"


@dataclass(frozen=True, kw_only=True)
class Instability:
    """One step that was not finite, or at which the loss was given up; where training went back to, if it did.

    ``what`` says in words what was wrong.
    """

    step: int
    outcome: Outcome
    what: str
    action: Action
    back_to: int | None = None


class Trouble(NamedTuple):
    """What a step met: nonfinite or diverged, and whether its update was made and has left the weights not finite."""

    step: int
    outcome: Outcome
    has_damaged_weights: bool


class OnInstability(Protocol):
    """Decides what is done about a trouble, given the instabilities before it, oldest first.

    One that ``goes_back`` at any time asks for a checkpoint before the first step, and for old ones to be kept.
    """

    goes_back: bool

    def __call__(self, past: Sequence[Instability], trouble: Trouble) -> Action: ...


class Stop:
    """The run ends there: a death is a result."""

    goes_back = False

    def __call__(self, past: Sequence[Instability], trouble: Trouble) -> Action:
        return Action.STOPPED


class Continue:
    """Leaves the step out and goes on; ends the run after ``max_in_a_row`` steps in a row that were not finite.

    A step that is not finite has not touched the weights; where its update did, training goes back to a checkpoint.
    A loss that has left may come back: how the run ends is decided at its end.
    """

    goes_back = False

    def __init__(self, *, max_in_a_row: Count):
        self.max_in_a_row = max_in_a_row

    def __call__(self, past: Sequence[Instability], trouble: Trouble) -> Action:
        num_before = self.max_in_a_row - 1
        steps_before = set(range(trouble.step - num_before, trouble.step))
        steps_lost = {event.step for event in past if event.outcome == Outcome.NONFINITE}
        if trouble.outcome == Outcome.NONFINITE and steps_before <= steps_lost:
            return Action.STOPPED
        return Action.WENT_BACK if trouble.has_damaged_weights else Action.WENT_ON


class Rollback:
    """Returns to the last checkpoint from before the trouble and skips the batches since, ``max_rollbacks`` times.

    The count of steps goes on: what the skipped steps cost in compute and data stays counted.  Chowdhery et al. 2022
    (PaLM), section 5.1, where the batches around a spike were skipped.
    """

    goes_back = True

    def __init__(self, *, max_rollbacks: Count):
        self.max_rollbacks = max_rollbacks

    def __call__(self, past: Sequence[Instability], trouble: Trouble) -> Action:
        num_rollbacks = sum(event.action == Action.WENT_BACK for event in past)
        return Action.WENT_BACK if num_rollbacks < self.max_rollbacks else Action.STOPPED
