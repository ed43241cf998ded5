"""The part of a report on what each variant loses, at its own best learning rate."""

from collections.abc import Sequence

from normlab.report.comparisons import Comparison
from normlab.report.document import Block, Cell, Paragraph, Picture, Section, Table, Tone
from normlab.report.intervals import Mean, VariantLoss, loss_at_best_rate
from normlab.report.naming import row_name, together
from normlab.report.number_words import mean_in_words, number
from normlab.report.results import SweepResult
from normlab.report.shown import at_best_rate, baseline_first, has_several_rates
from normlab.report.variants import Variant, baseline_of, by_variant, label_of

HEADER = [
    "Variant",
    "Best rate",
    "Alive at it",
    "Final validation loss, nats per token",
    "Final, bits per byte",
    "Best checkpoint, nats per token",
    "Best checkpoint, bits per byte",
    "Against the baseline",
]
TONES: dict[str, Tone] = {"lower": "good", "higher": "bad"}
METHOD = (
    "A variant is a choice of everything that was varied but the learning rate and the seed. Losses are means over "
    "seeds with 95 % t intervals; a dead run has no final loss, but may have had a best checkpoint. Differences to "
    "the baseline are of final losses, taken seed by seed, as runs of one seed share their batches and initial "
    "weights, and tested by a paired t test with Holm's correction for the number of variants. With a handful of "
    'seeds only large differences can be told from chance: "not distinguishable" does not mean equal.'
)
BEST_RATE = (
    " The best rate is the one of lowest mean loss, a death counting as the loss at initialisation, among those at "
    "which the most seeds have a result. It was chosen with the seeds reported here, so these losses are a little too "
    "good."
)


def part_on_variants(sweep: SweepResult, comparisons: Sequence[Comparison], pictures: Sequence[Picture]) -> Section:
    """A row for each variant, the baseline first."""
    grouped, baseline = by_variant(sweep), baseline_of(sweep)
    against = {comparison.variant.variant: comparison for comparison in comparisons}
    rows = []
    for variant in baseline_first(sweep):
        found = loss_at_best_rate(grouped[variant])
        name = Cell(row_name(variant, sweep))
        fate = "all died" if all(run.is_dead for run in grouped[variant]) else "no result yet"
        rows.append([name, *_cells(found, fate), _against(variant, baseline, against, fate)])
    method = METHOD + (BEST_RATE if has_several_rates(sweep) else "") + _which_baseline(sweep, baseline)
    blocks: list[Block] = [Paragraph(method), Table(_header(sweep), rows), *pictures]
    return Section(f"Loss of each variant{at_best_rate(sweep)}", blocks if rows else [])


def _which_baseline(sweep: SweepResult, baseline: Variant | None) -> str:
    if baseline is None:
        return " No run of the baseline has begun."
    if sweep.baseline is None and len(by_variant(sweep)) > 1:
        return " The sweep named no baseline; its first variant stands for one."
    return ""


def _header(sweep: SweepResult) -> list[str]:
    several = has_several_rates(sweep)
    return [HEADER[0], *(HEADER[1:3] if several else ["Rate", "Alive"]), *HEADER[3:]]


def losses_in_short(sweep: SweepResult, comparisons: Sequence[Comparison]) -> list[str]:
    """Which variant loses least, and which can be told from the baseline."""
    grouped = by_variant(sweep)
    found = {variant: loss_at_best_rate(runs) for variant, runs in grouped.items()}
    means = {variant: loss.final for variant, loss in found.items() if loss is not None and loss.final is not None}
    said = []
    if means:
        lowest = min(means, key=lambda variant: means[variant].value)
        said.append(
            f"The lowest mean final validation loss is {means[lowest].value:.4f} nats per token, of "
            f"{_named(lowest, found)}{_baseline_words(baseline_of(sweep), lowest, means, found)}."
        )
    for finding, words in (
        ("lower", "Lower than the baseline beyond chance"),
        ("higher", "Higher than the baseline beyond chance"),
        ("not distinguishable", "Not distinguishable from the baseline"),
        ("not testable", "Not testable against the baseline, for want of two shared seeds with a loss"),
    ):
        others = [comparison.variant.variant for comparison in comparisons]
        found_so = [comparison.variant.variant for comparison in comparisons if comparison.finding == finding]
        said += [f"{words}: {together(found_so, others, 'all other variants')}."] if found_so else []
    return said


def _baseline_words(
    baseline: Variant | None, lowest: Variant, means: dict[Variant, Mean], found: dict[Variant, VariantLoss | None]
) -> str:
    if len(means) == 1:
        return ""
    if baseline == lowest:
        return ", the baseline"
    if baseline not in means:
        return ""
    return f"; the baseline has {means[baseline].value:.4f} ({_named(baseline, found)})"


def _named(variant: Variant, found: dict[Variant, VariantLoss | None]) -> str:
    loss = found[variant]
    return label_of(variant, None if loss is None else loss.rate.lr)


def _cells(loss: VariantLoss | None, without: str) -> list[Cell]:
    if loss is None:
        return [Cell(without), *[Cell("-")] * 5]
    edge = "" if loss.rate.edge is None else f"\nthe {loss.rate.edge} tried"
    num_alive = loss.num_runs - loss.num_dead
    return [
        Cell(f"{number(loss.rate.lr)}{edge}", sort=loss.rate.lr),
        Cell(f"{num_alive} of {loss.num_runs}", sort=num_alive / loss.num_runs),
        *(
            Cell(mean_in_words(mean), sort=None if mean is None else mean.value)
            for mean in (loss.final, loss.final_bits_per_byte, loss.best, loss.best_bits_per_byte)
        ),
    ]


def _against(variant: Variant, baseline: Variant | None, against: dict[Variant, Comparison], without: str) -> Cell:
    if variant == baseline:
        return Cell("-")
    comparison = against.get(variant)
    if comparison is None:
        return Cell(f"Nothing to compare: {without}.")
    mean = comparison.difference.mean
    text = comparison.text.replace(": ", "\n", 1) if comparison.finding in TONES else comparison.text
    return Cell(text, sort=None if mean is None else mean.value, tone=TONES.get(comparison.finding, ""))
