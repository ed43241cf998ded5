"""From the criterion of a claim, written down before the sweep, and the runs to a verdict in one sentence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from normlab.core.errors import ConfigError
from normlab.report.criteria import check_criterion
from normlab.report.results import SweepResult
from normlab.report.selection import Undecidable
from normlab.report.verdict_on_loss import verdict_on_loss
from normlab.report.verdict_on_order import verdict_on_order
from normlab.report.verdict_on_runs import verdict_on_runs

Decision = Literal["reproduced", "not reproduced", "inconclusive"]
IN_WORDS: dict[bool | None, Decision] = {True: "reproduced", False: "not reproduced", None: "inconclusive"}
BY_KIND = {"runs": verdict_on_runs, "loss": verdict_on_loss, "order": verdict_on_order}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A claim, its criterion as it stood before the first run, and what the runs say of it."""

    id: str
    text: str
    criterion: Mapping[str, Any]
    decision: Decision
    sentence: str


def verdicts(sweep: SweepResult) -> list[Verdict]:
    """One for each claim of the sweep, in order. A criterion that cannot be read is inconclusive, and says why."""
    return [_verdict(claim, sweep) for claim in sweep.claims]


def decide(criterion: Mapping[str, Any], sweep: SweepResult) -> tuple[bool | None, str]:
    """Whether a checked criterion is met, None where the runs do not decide it; and the numbers in a sentence."""
    kind = criterion["kind"]
    if kind in ("all", "any"):
        return _combined(kind, [decide(part, sweep) for part in criterion["of"]])
    try:
        return BY_KIND[kind](criterion, sweep)
    except Undecidable as reason:
        text = str(reason)
        return None, f"{text[0].upper()}{text[1:]}."


def _verdict(claim: Mapping[str, Any], sweep: SweepResult) -> Verdict:
    criterion = claim.get("criterion")
    try:
        check_criterion(criterion)
        met, sentence = decide(criterion or {}, sweep)
    except ConfigError as error:
        met, sentence = None, f"The criterion cannot be evaluated: {error}"
    return Verdict(
        id=str(claim.get("id", "")),
        text=str(claim.get("text", "")),
        criterion=criterion if isinstance(criterion, Mapping) else {},
        decision=IN_WORDS[met],
        sentence=sentence,
    )


def _combined(kind: str, parts: Sequence[tuple[bool | None, str]]) -> tuple[bool | None, str]:
    """``all`` is settled by one that is not met, ``any`` by one that is; else one undecided leaves it so."""
    settling = kind == "any"
    found = [met for met, _ in parts]
    met = settling if settling in found else None if None in found else not settling
    return met, " ".join(f"({index}) {IN_WORDS[part]}: {said}" for index, (part, said) in enumerate(parts, start=1))
