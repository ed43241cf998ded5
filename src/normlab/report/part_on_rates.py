"""The part of a report on the learning rate: how far each variant survives, and how much the rate matters to it."""

from collections.abc import Sequence

from normlab.report.document import Block, Cell, Paragraph, Picture, Section, Table
from normlab.report.frontier import Frontier, frontier, frontier_by_seed
from normlab.report.naming import row_name, together
from normlab.report.number_words import count, interval_in_words, number
from normlab.report.rate_grid import Sensitivity, best_rate, sensitivities
from normlab.report.results import RunResult, SweepResult
from normlab.report.shown import baseline_first, has_several_rates
from normlab.report.variants import Variant, by_variant, rate_place

METHOD = (
    "The frontier, the largest stable rate, is where survival ends: the largest rate up to which every run of every "
    "seed survived, with the smallest rate that killed one. Sensitivity is the mean over the rates of the loss less "
    "the lowest, in nats, a death counting as the loss at initialisation (Wortsman et al. 2023): 0 for a variant that "
    "does as well at every rate. Its interval is a bootstrap over seeds; with few seeds it shows the spread and "
    "proves nothing. The loss at a rate chosen on the other seeds is free of choosing and reporting on the same "
    "seeds."
)
HEADER = [
    "Variant",
    "Frontier",
    "Frontier by seed",
    "Best rate",
    "Loss, rate chosen on other seeds",
    "Sensitivity, nats",
]


def part_on_rates(sweep: SweepResult, pictures: Sequence[Picture]) -> Section:
    """None where one rate was tried."""
    if not has_several_rates(sweep):
        return Section("Learning rate", [])
    grouped, found = by_variant(sweep), sensitivities(sweep)
    rows = [
        [Cell(row_name(variant, sweep)), *_cells(grouped[variant], found[variant])] for variant in baseline_first(sweep)
    ]
    measured = next((one for one in found.values() if one is not None), None)
    over = (
        ""
        if measured is None
        else f" Here sensitivity is taken over {', '.join(f'{rate:g}' for rate in measured.rates)}."
    )
    blocks: list[Block] = [Paragraph(METHOD + over), Table(HEADER, rows), *pictures]
    return Section("Learning rate", blocks if rows else [])


def frontiers_in_short(sweep: SweepResult) -> list[str]:
    """Up to which rate variants survive, one sentence for those of the same; nothing where one rate was tried."""
    if not has_several_rates(sweep):
        return []
    edges = {variant: frontier(runs) for variant, runs in by_variant(sweep).items()}
    found: dict[str, list[Variant]] = {}
    for variant, edge in sorted(edges.items(), key=lambda item: rate_place(item[1].lr)):
        if edge.num_runs:
            found.setdefault(edge.text, []).append(variant)
    return [
        f"Largest stable learning rate {text}: {together(variants, list(edges))}." for text, variants in found.items()
    ]


def _cells(runs: Sequence[RunResult], sensitivity: Sensitivity | None) -> list[Cell]:
    edge, best = frontier(runs), best_rate(runs)
    return [
        Cell(edge.text, sort=edge.lr),
        Cell(_by_seed(frontier_by_seed(runs))),
        Cell(number(None if best is None else best.lr), sort=None if best is None else best.lr),
        Cell(number(None if best is None else best.left_out_loss), sort=None if best is None else best.left_out_loss),
        _sensitivity(sensitivity),
    ]


def _by_seed(found: dict[int, Frontier]) -> str:
    lowest = [edge.lr for edge in found.values() if edge.num_runs]
    known = sorted(rate for rate in lowest if rate is not None)
    if not known:
        return "-" if not lowest else "below all tried"
    spread = f"{known[0]:g}" if known[0] == known[-1] else f"{known[0]:g} to {known[-1]:g}"
    none = "" if len(known) == len(lowest) else f"\nbelow all tried for {len(lowest) - len(known)}"
    return f"{spread}\n{count(len(lowest), 'seed')}{none}"


def _sensitivity(found: Sensitivity | None) -> Cell:
    if found is None:
        return Cell("-")
    interval = "\none seed" if found.interval is None else f"\n{interval_in_words(*found.interval, '.3f')}"
    return Cell(f"{found.value:.3f}{interval}", sort=found.value)
