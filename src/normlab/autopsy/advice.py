"""Which choices address the way in which a run died, as commands to type, each with a clause why.

Nothing is offered that is there already, nor what the evidence does not carry: see ``mechanisms`` and ``offers``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from normlab.autopsy.commands import command_of, repeatable, with_choice
from normlab.autopsy.finding import FirstNonfinite
from normlab.autopsy.mechanisms import Mechanism, mechanism_of
from normlab.autopsy.offers import Numbers, against
from normlab.autopsy.story import Story
from normlab.telemetry.architecture import Architecture

SAME_RANGE = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a run was told: its overrides, the model that was built from them, and some numbers of its configuration."""

    overrides: Sequence[str]
    architecture: Architecture
    numbers: Numbers


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """A choice, the whole command that makes it, and why it may help."""

    choice: str
    command: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What to try, the most to the point first; and what to look at instead, or what would be of no use."""

    suggestions: tuple[Suggestion, ...]
    remarks: tuple[str, ...]


def advise(finding: FirstNonfinite | None, story: Story, setting: Setting) -> Advice:
    """Advice on a run that ended ``nonfinite`` or ``diverged``; without a finding, by what grew first."""
    mechanism = mechanism_of(finding, story)
    own = repeatable(setting.overrides)
    suggestions: dict[str, Suggestion] = {}
    for remedy, reason in against(mechanism, finding and finding.site, story, setting.numbers):
        tried = with_choice(own, remedy.option)
        if remedy.option not in own and remedy.helps(setting.architecture):
            suggestion = Suggestion(choice=remedy.option, command=command_of(tried), reason=reason)
            suggestions.setdefault(remedy.option, suggestion)
    remarks = tuple(_remarks(finding, mechanism, story, setting))
    return Advice(suggestions=tuple(suggestions.values()), remarks=remarks)


def _remarks(finding: FirstNonfinite | None, mechanism: Mechanism, story: Story, setting: Setting) -> Iterator[str]:
    if mechanism == "bad_input":
        yield _of_bad_input(finding)
        return
    if mechanism == "mask":
        yield "A row of attention logits had no finite value: look at what masks or produces them. No option mends it."
        return
    if story.end_step == 1:
        yield "No update had been made before: learning rate, warmup and clipping have no part in it."
    if finding is None:
        return
    if finding.limit_dtype in SAME_RANGE and finding.phase != "optimizer":
        other = next(dtype for dtype in SAME_RANGE if dtype != finding.limit_dtype)
        yield f"trainer.precision is no remedy: {other} has the same range as {finding.limit_dtype}."
    if finding.phase == "backward":
        yield "trainer.grad_clip is no remedy: it scales gradients that are computed already."
    if mechanism == "division":
        yield "A division by zero: something was exactly zero, or too small to be squared."
    if mechanism == "unknown":
        yield "No option here is known to address it."


def _of_bad_input(finding: FirstNonfinite | None) -> str:
    if finding is not None and finding.phase == "data":
        return "Look at the data: no option mends token ids that are not in the vocabulary."
    return "Look at where the weights came from: they were not finite before the step began. No option mends that."
