"""The part of a report on what it rests on."""

from collections.abc import Mapping, Sequence

from normlab.report.document import Block, Cell, Code, Listing, Paragraph, Section, Table
from normlab.report.number_words import duration, listed
from normlab.report.progress import Progress
from normlab.report.results import RunResult, SweepResult
from normlab.report.shown import distinct_runs
from normlab.report.variants import by_variant

TITLE = "What this rests on"


def part_on_basis(sweep: SweepResult, progress: Progress) -> Section:
    """Runs, seeds, what was varied, tokens, seconds, hardware, versions, and the command that repeats it."""
    runs = distinct_runs(sweep)
    rows = [[Cell(name), Cell(text)] for name, text in _facts(sweep, runs, progress) if text]
    blocks: list[Block] = [Table(["", ""], rows)]
    if sweep.command:
        blocks += [Paragraph("The command that repeats it:"), Code(sweep.command)]
    blocks.append(Paragraph("Every run with its numbers is in results.csv, beside this report."))
    return Section(TITLE, blocks)


def part_on_remarks(sweep: SweepResult) -> Section:
    """What could not be read, or does not fit together."""
    return Section("Remarks", [Listing(sweep.remarks)] if sweep.remarks else [])


def _facts(sweep: SweepResult, runs: Sequence[RunResult], progress: Progress) -> list[tuple[str, str]]:
    seeds = sorted({run.seed for run in runs})
    rates = sorted({run.lr for run in runs if run.lr is not None})
    sizes = sorted({size for run in runs if isinstance(size := run.facts.get("num_parameters"), int)})
    steps = sorted({run.planned_steps for run in runs})
    return [
        ("Experiment", sweep.experiment or ""),
        ("Runs", progress.text),
        ("Variants", f"{len(by_variant(sweep)) or ''}"),
        *(
            (f"Varied: {key}" if len(values) > 1 else key, listed(list(values), 20))
            for key, values in sweep.varied.items()
        ),
        ("Learning rates", listed([f"{rate:g}" for rate in rates], 20)),
        ("Seeds", listed([str(seed) for seed in seeds], 20)),
        ("Planned steps a run", _span(steps)),
        ("Parameters", _span(sizes)),
        ("Tokens trained on", f"{sum(run.tokens for run in runs):,} in all runs together"),
        ("Time of training", f"{duration(sum(run.seconds for run in runs))} in all runs together"),
        ("Entropy of the validation text", _entropy(runs)),
        ("Hardware", _together(runs, "hardware")),
        ("Versions", _together(runs, "versions")),
        ("Commit", listed(sorted({str(run.facts["git_commit"]) for run in runs if run.facts.get("git_commit")}))),
    ]


def _span(values: Sequence[int]) -> str:
    if not values:
        return ""
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"


def _entropy(runs: Sequence[RunResult]) -> str:
    """Known of text that was generated."""
    known = sorted({value for run in runs if isinstance(value := run.facts.get("val_entropy"), float)})
    floor = "no model that has not seen the text has a lower loss on average"
    return f"{known[0]:.4f} nats per token: {floor}" if known else ""


def _together(runs: Sequence[RunResult], fact: str) -> str:
    """Each different set of facts once, on a line."""
    found = [value for run in runs if isinstance(value := run.facts.get(fact), Mapping)]
    return "\n".join(dict.fromkeys(", ".join(f"{key} {value}" for key, value in facts.items()) for facts in found))
