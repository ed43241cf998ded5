"""How runs ended, counted, and of what they died."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from normlab.autopsy.place_words import place_in_words
from normlab.autopsy.statistic_words import statistic_of
from normlab.core.records import Outcome
from normlab.report.results import RunResult
from normlab.report.survival import share_interval

KIND_WORDS = {
    "exp_overflow": "an exponential overflowed",
    "inf_minus_inf": "infinities of both signs met",
    "zero_over_zero": "a division by zero",
    "product_overflow": "a product overflowed",
    "sum_overflow": "a sum overflowed",
    "update_overflow": "the optimizer's step overflowed",
    "loss_overflow": "the loss overflowed",
    "bad_input": "the input was bad",
}
NOT_ENDED = "not ended"
UNKNOWN = "cause unknown"


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """Counts of a group of runs.

    ``by_outcome`` counts each outcome that occurs, in a fixed order, runs without one as ``not ended``. ``causes``
    counts the causes of the dead, the most frequent first. ``survived_interval`` is the 95 % interval (Clopper and
    Pearson) of the share that survives, among the runs that completed or died; None where there are none.
    """

    num_runs: int
    num_completed: int
    num_dead: int
    by_outcome: dict[str, int]
    causes: dict[str, int]
    death_steps: tuple[int, float, int] | None
    survived_interval: tuple[float, float] | None


def outcomes_of(runs: Sequence[RunResult]) -> Outcomes:
    """Count them; ``death_steps`` are the first, the median and the last step at which one died."""
    counted = Counter(run.outcome or NOT_ENDED for run in runs)
    dead = [run for run in runs if run.is_dead]
    causes = Counter(cause_words(run) for run in dead)
    steps = sorted(run.steps for run in dead)
    num_completed = counted[Outcome.COMPLETED]
    return Outcomes(
        num_runs=len(runs),
        num_completed=num_completed,
        num_dead=len(dead),
        by_outcome={name: counted[name] for name in (*map(str, Outcome), NOT_ENDED) if counted[name]},
        causes=dict(sorted(causes.items(), key=lambda item: (-item[1], item[0]))),
        death_steps=(steps[0], median(steps), steps[-1]) if steps else None,
        survived_interval=share_interval(num_completed, num_completed + len(dead)),
    )


def cause_words(run: RunResult, *, with_layer: bool = True) -> str:
    """``an exponential overflowed in the attention softmax of layer 3``; of a loss that left, what grew first."""
    cause = run.cause
    if cause is None or cause.kind is None:
        grew = run.facts.get("first_growth")
        ended = "the loss left for good" if run.outcome == Outcome.DIVERGED else UNKNOWN
        if not isinstance(grew, str):
            return ended
        statistic = statistic_of(grew)
        return f"{ended}; first to grow: {statistic if with_layer else statistic.name}"
    place = "" if cause.site is None else f" in {place_in_words(cause.site)}"
    layer = f" of layer {cause.layer}" if with_layer and cause.layer is not None else ""
    return f"{KIND_WORDS.get(cause.kind, cause.kind.replace('_', ' '))}{place}{layer}"
