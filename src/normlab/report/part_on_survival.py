"""The part of a report on which runs died, when and of what."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from normlab.core.run_folder import RunFolder
from normlab.report.document import Block, Cell, Paragraph, Picture, Section, Table
from normlab.report.naming import row_name, together
from normlab.report.number_words import interval_in_words
from normlab.report.outcomes import UNKNOWN, cause_words, outcomes_of
from normlab.report.results import RunResult, SweepResult
from normlab.report.shown import baseline_first, distinct_runs
from normlab.report.variants import by_variant, label_of

METHOD = (
    "A run dies when its loss is no longer a finite number, or leaves its course for good (diverged). The curves are "
    "Kaplan and Meier's estimate: a run that completed, was cut short or goes on counts as alive up to its last step "
    "and as unknown after it. Causes are those that the runs' autopsies found: the first value that was not finite, "
    "and where it arose; of a loss that left, what grew first. A row holds the runs of a variant at all rates and "
    "seeds; the share that survived is of those that completed or died, with its 95 % interval after Clopper and "
    "Pearson."
)
COMPLETED = "completed"
HEADER = ["Variant", "Runs", "Completed", "Died", "Survived", "Steps of death", "Other", "Causes of death"]


def part_on_survival(sweep: SweepResult, report_folder: Path | None, pictures: Sequence[Picture]) -> Section:
    """Counts by variant, curves, and every run that did not complete."""
    grouped = by_variant(sweep)
    rows = [[Cell(row_name(variant, sweep)), *_counts(grouped[variant])] for variant in baseline_first(sweep)]
    ended = [run for run in distinct_runs(sweep) if run.outcome not in (COMPLETED, None)]
    blocks: list[Block] = [
        Paragraph(METHOD),
        Table(HEADER, rows),
        *pictures,
    ]
    if ended:
        blocks += [
            Paragraph("Every run that ended before its last step, with its autopsy where there is one:"),
            Table(
                ["Variant", "Rate", "Seed", "Outcome", "Last step", "Why"],
                [_ending(run, report_folder) for run in ended],
            ),
        ]
    return Section("Survival, and causes of death", blocks if rows else [])


def deaths_in_short(sweep: SweepResult) -> list[str]:
    """Which variants died, and mostly of what; which never did."""
    grouped = by_variant(sweep)
    dead = [variant for variant, runs in grouped.items() if any(run.is_dead for run in runs)]
    alive = [variant for variant in grouped if variant not in dead]
    causes = Counter(cause_words(run, with_layer=False) for run in distinct_runs(sweep) if run.is_dead)
    if not dead:
        return ["No run died."]
    every = list(grouped)
    many = len(every) > 1
    said = [f"In {len(dead)} of {len(every)} variants runs died: {together(dead, every)}."] if many else []
    said += [f"In the others none did: {together(alive, every)}."] if alive else []
    ((cause, num),) = causes.most_common(1)
    if cause == UNKNOWN:
        return [*said, f"Of what {num} of the {causes.total()} died is not known."]
    return [*said, f"The most frequent cause of death ({num} of {causes.total()}): {cause}."]


def _counts(runs: Sequence[RunResult]) -> list[Cell]:
    found = outcomes_of(runs)
    interval, steps = found.survived_interval, found.death_steps
    num_result = found.num_completed + found.num_dead
    share = "-" if interval is None else (
        f"{found.num_completed / num_result:.0%}\n{interval_in_words(*interval, '.0%')}"
    )  # fmt: skip
    others = {name: num for name, num in found.by_outcome.items() if name not in (COMPLETED, "nonfinite", "diverged")}
    return [
        Cell(f"{found.num_runs}", sort=found.num_runs),
        Cell(f"{found.num_completed}", sort=found.num_completed),
        Cell(f"{found.num_dead}", sort=found.num_dead, tone="bad" if found.num_dead else ""),
        Cell(share, sort=None if interval is None else found.num_completed / num_result),
        Cell(_steps_in_words(steps), sort=None if steps is None else steps[1]),
        Cell("\n".join(f"{num} {name.replace('_', ' ')}" for name, num in others.items())),
        Cell("\n".join(f"{num}: {cause}" if len(found.causes) > 1 else cause for cause, num in found.causes.items())),
    ]


def _steps_in_words(steps: tuple[int, float, int] | None) -> str:
    if steps is None:
        return "-"
    first, median, last = steps
    return f"{first:,}" if first == last else f"{first:,} to {last:,}\nmedian {median:,.6g}"


def _ending(run: RunResult, report_folder: Path | None) -> list[Cell]:
    autopsy = RunFolder(run.folder).autopsy_markdown
    link = os.path.relpath(autopsy, report_folder) if report_folder and autopsy.is_file() else None
    error = run.facts.get("error")
    why = cause_words(run) if run.is_dead else str(error) if error else "-"
    return [
        Cell(label_of(run.choices)),
        Cell("-" if run.lr is None else f"{run.lr:g}", sort=run.lr),
        Cell(f"{run.seed}", sort=run.seed),
        Cell(str(run.outcome).replace("_", " "), tone="bad" if run.is_dead else "open"),
        Cell(f"{run.steps:,} of {run.planned_steps:,}", sort=run.steps),
        Cell(why, link=link),
    ]
