"""The answer that a sweep ends with: report/index.html, report.md, figures and results.csv, at any time."""

from contextlib import suppress
from pathlib import Path

from normlab.core.files import write_whole
from normlab.report.as_html import as_html
from normlab.report.as_markdown import as_markdown
from normlab.report.comparisons import comparisons
from normlab.report.document import Block, Document, Listing, Paragraph, Section
from normlab.report.heat_map import pairs_of_axes
from normlab.report.histories import read_histories
from normlab.report.in_short import findings_in_short
from normlab.report.load import load_sweep
from normlab.report.number_words import count, quoted
from normlab.report.part_on_basis import part_on_basis, part_on_remarks
from normlab.report.part_on_claims import part_on_claims
from normlab.report.part_on_rates import part_on_rates
from normlab.report.part_on_survival import part_on_survival
from normlab.report.part_on_variants import part_on_variants
from normlab.report.pictures import (
    HEAT_MAPS,
    curve_pictures,
    growth_pictures,
    heat_map_pictures,
    loss_pictures,
    rate_pictures,
    survival_pictures,
)
from normlab.report.progress import Progress, progress_of
from normlab.report.results import SweepResult
from normlab.report.results_csv import results_csv
from normlab.report.shown import best_arms, distinct
from normlab.report.variants import label_of
from normlab.report.verdicts import verdicts

FOLDER, PAGE, MARKDOWN, TABLE = "report", "index.html", "report.md", "results.csv"


def write_report(sweep_folder: Path) -> Path:
    """Write the report of a sweep's folder, also while it runs, and return its index.html.

    Raises UserError where there is neither a plan nor a run.
    """
    return write_report_of(load_sweep(sweep_folder))


def write_report_of(sweep: SweepResult, into: Path | None = None) -> Path:
    """The same of a sweep as it was read; in another folder than the sweep's it stands alone, with no links to runs.

    Every file is replaced as a whole; pictures that an earlier report had and this one has not are removed from the
    sweep's.
    """
    folder = into or sweep.folder / FOLDER
    document = document_of(sweep, None if into else folder)
    for picture in document.pictures:
        write_whole(folder / f"{picture.name}.png", picture.png)
    write_whole(folder / TABLE, results_csv(sweep))
    write_whole(folder / MARKDOWN, as_markdown(document))
    write_whole(folder / PAGE, as_html(document))
    if into is None:
        _remove_others(folder, {f"{picture.name}.png" for picture in document.pictures})
    return folder / PAGE


def _remove_others(folder: Path, names: set[str]) -> None:
    for path in folder.glob("*.png"):
        if path.name not in names:
            with suppress(OSError):
                path.unlink()


def document_of(sweep: SweepResult, report_folder: Path | None) -> Document:
    """The report; links lead from ``report_folder``, and there are none without it."""
    progress, decided = progress_of(sweep), verdicts(sweep)
    title = f"Report of the sweep {sweep.experiment or '/'.join(sweep.folder.resolve().parts[-2:])}"
    if not sweep.runs:
        lead: list[Block] = [Paragraph(progress.text, is_notice=True)]
        return Document(title, lead, [part_on_basis(sweep, progress), part_on_remarks(sweep)])
    compared = comparisons(sweep, "final")
    histories = read_histories(sweep.runs)
    return Document(
        title,
        [
            *_question(sweep),
            *_state(progress),
            Paragraph("In short:"),
            Listing([*_all_ended(progress), *findings_in_short(sweep, compared, decided)]),
        ],
        [
            part_on_claims(decided),
            part_on_variants(sweep, compared, loss_pictures(sweep)),
            part_on_survival(sweep, report_folder, survival_pictures(sweep)),
            part_on_rates(sweep, rate_pictures(sweep)),
            Section("Learning curves", [*_same_runs(sweep), *curve_pictures(sweep, histories)]),
            Section("Growth of activations and attention logits", growth_pictures(sweep, histories)),
            _heat_maps(sweep),
            part_on_basis(sweep, progress),
            part_on_remarks(sweep),
        ],
    )


def _question(sweep: SweepResult) -> list[Block]:
    return [Paragraph(f"The question: {sweep.question}")] if sweep.question else []


def _state(progress: Progress) -> list[Block]:
    if progress.is_complete:
        return []
    return [Paragraph(f"This sweep is not complete, and all below may still change. {progress.text}", is_notice=True)]


def _all_ended(progress: Progress) -> list[str]:
    """What ``_state`` has not said already."""
    return [progress.text] if progress.is_complete else []


def _heat_maps(sweep: SweepResult) -> Section:
    drawn = heat_map_pictures(sweep)
    num_left_out = len(pairs_of_axes(sweep)) - len(drawn)
    left_out = f" {count(num_left_out, 'further pair')} of axes are not drawn." if num_left_out else ""
    return Section("Heat maps", [Paragraph(HEAT_MAPS + left_out), *drawn] if drawn else [])


def _same_runs(sweep: SweepResult) -> list[Block]:
    """Which variants have no line of their own."""
    _, same = distinct(best_arms(sweep))
    if not same:
        return []
    names = [f"{label_of(variant)} is {label_of(other)}" for variant, other in same.items()]
    return [Paragraph(f"Choices that build the same model have the same runs, drawn once: {quoted(names)}.")]
