"""The part of a report on the claims of the experiment."""

from collections import Counter
from collections.abc import Sequence

from normlab.core.records import encode_json
from normlab.report.document import Block, Cell, Code, Paragraph, Section, Table, Tone
from normlab.report.number_words import count, listed
from normlab.report.verdicts import Verdict

TONES: dict[str, Tone] = {"reproduced": "good", "not reproduced": "bad", "inconclusive": "open"}


def part_on_claims(verdicts: Sequence[Verdict]) -> Section:
    """A row for each claim, and its criterion to look up."""
    if not verdicts:
        return Section("Verdicts on the claims", [])
    rows = [
        [Cell(verdict.text), Cell(verdict.decision, tone=TONES[verdict.decision]), Cell(verdict.sentence)]
        for verdict in verdicts
    ]
    blocks: list[Block] = [
        Paragraph(
            "Each claim was written down with its criterion before the first run, and is decided by the runs alone. "
            "Inconclusive are those that the runs do not decide."
        ),
        Table(["Claim", "Verdict", "What the runs say"], rows),
    ]
    criteria = "\n\n".join(f"{verdict.id}: {encode_json(verdict.criterion, indent=2)}" for verdict in verdicts)
    return Section("Verdicts on the claims", [*blocks, Code(criteria, "The criteria as they stood before the sweep")])


def claims_in_short(verdicts: Sequence[Verdict]) -> str | None:
    """``Of the 7 claims under test, 4 reproduced, 2 not reproduced and 1 inconclusive.``"""
    if not verdicts:
        return None
    if len(verdicts) == 1:
        return f"The claim under test: {verdicts[0].decision}."
    found = Counter(verdict.decision for verdict in verdicts)
    said = [f"{found[decision]} {decision}" for decision in TONES if found[decision]]
    return f"Of the {count(len(verdicts), 'claim')} under test, {listed(said)}."
