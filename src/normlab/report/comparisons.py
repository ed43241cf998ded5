"""Each variant against the baseline, both at their own best rate, in words that claim no more than was shown.

The best rates are chosen on the seeds that are compared, so both losses are a little too good, by about the same
where both were tried at the same rates; ``BestRate.left_out_loss`` shows by how much.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from normlab.report.intervals import losses_by_seed
from normlab.report.losses import Measure
from normlab.report.number_words import difference_in_words
from normlab.report.paired import SIGNIFICANCE, PairedDifference, holm, paired_difference
from normlab.report.rate_grid import best_rate
from normlab.report.results import RunResult, SweepResult
from normlab.report.variants import Variant, baseline_of, by_variant

Finding = Literal["lower", "higher", "not distinguishable", "the same runs", "not testable"]


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison: its runs at its best rate, how many of them have a loss, and how many died."""

    variant: Variant
    lr: float | None
    num_runs: int
    num_with_loss: int
    num_dead: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A variant's validation loss less the baseline's, in nats per token, on the shared seeds.

    ``p_adjusted`` is after Holm over all comparisons of the same table, each set of runs counted once. The mean's
    interval is that of this comparison alone, so it may leave out zero where the finding is "not distinguishable".
    """

    variant: Side
    baseline: Side
    measure: Measure
    difference: PairedDifference
    p_adjusted: float | None
    finding: Finding
    text: str


def comparisons(sweep: SweepResult, measure: Measure) -> list[Comparison]:
    """Of every other variant that has a result; none where the baseline has none."""
    baseline = baseline_of(sweep)
    grouped = {variant: _at_best_rate(runs) for variant, runs in by_variant(sweep).items()}
    if baseline is None or not grouped[baseline]:
        return []
    reference = grouped[baseline]
    others = [(variant, runs) for variant, runs in grouped.items() if variant != baseline and runs]
    differences = [
        paired_difference(losses_by_seed(runs, measure), losses_by_seed(reference, measure)) for _, runs in others
    ]
    folders = [_folders(runs) for _, runs in others]
    tested = {of: found.p for of, found in zip(folders, differences, strict=True) if of != _folders(reference)}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    made = []
    for (variant, runs), found, of in zip(others, differences, folders, strict=True):
        p = adjusted.get(of)
        finding = _finding(found, p, is_same=of not in tested)
        sides = _side(variant, runs, measure), _side(baseline, reference, measure)
        made.append(
            Comparison(
                variant=sides[0],
                baseline=sides[1],
                measure=measure,
                difference=found,
                p_adjusted=p,
                finding=finding,
                text=" ".join([_found_in_words(found, p, finding), *_missing_in_words(*sides)]),
            )
        )
    return made


def _at_best_rate(runs: Sequence[RunResult]) -> list[RunResult]:
    rate = best_rate(runs)
    return [] if rate is None else [run for run in runs if run.lr == rate.lr]


def _folders(runs: Sequence[RunResult]) -> frozenset[Path]:
    """What runs are the same by: choices that build the same model share them, and are tested once."""
    return frozenset(run.folder for run in runs)


def _side(variant: Variant, runs: Sequence[RunResult], measure: Measure) -> Side:
    return Side(
        variant=variant,
        lr=runs[0].lr,
        num_runs=len(runs),
        num_with_loss=len(losses_by_seed(runs, measure)),
        num_dead=sum(run.is_dead for run in runs),
    )


def _finding(found: PairedDifference, p: float | None, is_same: bool) -> Finding:
    if is_same:
        return "the same runs"
    if p is None or found.mean is None:
        return "not testable"
    if p >= SIGNIFICANCE:
        return "not distinguishable"
    return "lower" if found.mean.value < 0 else "higher"


def _found_in_words(found: PairedDifference, p: float | None, finding: Finding) -> str:
    if finding == "the same runs":
        return "The same runs: the choices that differ build the same model."
    mean = found.mean
    if mean is None:
        return "Not testable: no seed has a loss on both sides."
    if mean.low is None or mean.high is None or p is None:
        return f"Not testable: one shared seed, difference {difference_in_words(mean)} nats per token."
    numbers = f"{difference_in_words(mean)} nats per token over {mean.num_seeds} shared seeds, corrected p = {p:.2g}."
    return f"{finding.capitalize()}: difference {numbers}"


def _missing_in_words(variant: Side, baseline: Side) -> list[str]:
    """What a difference of the survivors hides."""
    said = []
    for name, side in (("this variant", variant), ("the baseline", baseline)):
        if side.num_with_loss < side.num_runs:
            died = f"; {side.num_dead} died" if side.num_dead else ""
            said.append(f"Of {name} {side.num_with_loss} of {side.num_runs} runs have such a loss{died}.")
    return said
