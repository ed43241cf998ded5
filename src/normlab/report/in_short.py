"""What a sweep found, in a few sentences: above the page, and on the terminal."""

from collections.abc import Sequence

from normlab.report.comparisons import Comparison, comparisons
from normlab.report.part_on_claims import claims_in_short
from normlab.report.part_on_rates import frontiers_in_short
from normlab.report.part_on_survival import deaths_in_short
from normlab.report.part_on_variants import losses_in_short
from normlab.report.progress import progress_of
from normlab.report.results import SweepResult
from normlab.report.verdicts import Verdict, verdicts


def in_short(sweep: SweepResult) -> list[str]:
    """How far the sweep is, its claims, its deaths, how far each variant survives and what it loses."""
    progress = progress_of(sweep)
    if not sweep.runs:
        return [progress.text]
    return [progress.text, *findings_in_short(sweep, comparisons(sweep, "final"), verdicts(sweep))]


def findings_in_short(sweep: SweepResult, compared: Sequence[Comparison], decided: Sequence[Verdict]) -> list[str]:
    """The same without how far it is."""
    claims = claims_in_short(decided)
    return [
        *([claims] if claims else []),
        *deaths_in_short(sweep),
        *frontiers_in_short(sweep),
        *losses_in_short(sweep, compared),
    ]
