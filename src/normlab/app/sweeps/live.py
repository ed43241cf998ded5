"""A sweep as it goes: a line for every run that ends, which runs are under way, and how long the rest will take."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from normlab.app.sweeps.plan import PlannedJob, PlannedRun, SweepPlan
from normlab.core.records import Outcome
from normlab.core.run_folder import RunFolder
from normlab.report.number_words import duration
from normlab.report.read_run import planned_run, read_run
from normlab.report.results import RunResult
from normlab.report.variants import label_of

LABEL_WIDTH = 60


@dataclass
class LiveSweep:
    """What has been seen of a sweep; ``look`` tells what is new. The plan is read anew, for it may grow.

    A run has ended when its summary was written after the sweep was started, or holds a result of an earlier start.
    """

    folder: Path
    shown: set[str] = field(default_factory=set)

    def look(self) -> Iterator[str]:
        """A line for every run that has ended since the last look, in the order of their ends; then the time left."""
        plan = SweepPlan.read(self.folder)
        runs = plan.runs(self.folder)
        ended = [run for run in runs if run.job.folder not in self.shown and has_ended(run.folder, plan.started)]
        ended.sort(key=lambda run: _ended_at(run.folder))
        for run in ended:
            self.shown.add(run.job.folder)
            total = "" if plan.searches else f"/{len(runs)}"  # a search does not know how many runs it will take
            number = f"[{len(self.shown):>{len(str(len(runs)))}}{total}]"
            left = self.time_left() if run is ended[-1] else ""
            yield f"{number} {label(run.job, plan):<{LABEL_WIDTH}}  {in_words(run)}" + (f"; {left}" if left else "")

    def pass_over_earlier(self) -> int:
        """Count what had a result before the sweep was started as seen; return how many runs these are."""
        plan = SweepPlan.read(self.folder)
        earlier = [run for run in plan.runs(self.folder) if _ended_at(run.folder) < plan.started]
        self.shown |= {run.job.folder for run in earlier if run.folder.result() is not None}
        return len(self.shown)

    def time_left(self) -> str:
        """How long the rest will take at the pace since the start; nothing where that cannot be told."""
        plan = SweepPlan.read(self.folder)
        runs = plan.runs(self.folder)
        num_left = sum(not has_ended(run.folder, plan.started) for run in runs)
        ends = [_ended_at(run.folder) for run in runs if _ended_at(run.folder) >= plan.started]
        if not ends or not num_left or plan.searches:
            return ""
        pace = (max(ends) - plan.started) / len(ends)
        return f"about {duration(pace * num_left)} left"

    def under_way(self) -> list[str]:
        """A line for every run that has begun and not ended."""
        plan = SweepPlan.read(self.folder)
        lines = []
        for run in plan.runs(self.folder):
            result = result_of(run)
            if result is not None and not has_ended(run.folder, plan.started):
                lines.append(f"{label(run.job, plan)}  step {result.steps:,} of {result.planned_steps:,}")
        return lines


def has_ended(folder: RunFolder, started: float) -> bool:
    """Whether a run has a result, or has ended otherwise since ``started``."""
    ended_at = _ended_at(folder)
    return ended_at >= started or (ended_at > -math.inf and folder.result() is not None)


def result_of(run: PlannedRun) -> RunResult | None:
    """What the run's folder tells; None where it has not begun."""
    job = run.job
    planned = planned_run(
        name=job.name,
        folder=run.folder.path,
        choices=job.choices,
        lr=job.lr,
        seed=job.seed,
        fingerprint=job.fingerprint,
        planned_steps=job.planned_steps,
        facts={},
    )
    return read_run(planned, lambda remark: None)


def label(job: PlannedJob, plan: SweepPlan) -> str:
    """The run's choices, and its rate and seed where several are planned or searched."""
    told = label_of(job.choices) if job.choices else ""
    has_rates = len({other.lr for other in plan.jobs}) > 1 or bool(plan.searches)
    has_seeds = len({other.seed for other in plan.jobs}) > 1
    parts = [told, f"lr={job.lr:g}" if has_rates else "", f"seed={job.seed}" if has_seeds else ""]
    return ", ".join(part for part in parts if part) or job.name


def in_words(run: PlannedRun) -> str:
    """``completed, val loss 2.360, 23 s``; of a death its step and cause."""
    result = result_of(run)
    if result is None:
        return "gone"
    seconds = f"{result.seconds:.0f} s"
    if result.outcome == Outcome.COMPLETED:
        return f"completed, val loss {_loss(result.final_val_loss)}, {seconds}"
    if result.is_dead:
        cause = result.cause
        named = "" if cause is None or cause.kind is None else f" ({cause.kind.replace('_', ' ')}{_place(result)})"
        return f"{result.outcome} at step {result.steps}{named}, {seconds}"
    return f"{result.outcome} after {result.steps} steps, {seconds}"


def _place(result: RunResult) -> str:
    cause = result.cause
    if cause is None or cause.site is None:
        return ""
    return f" in {cause.site}" + ("" if cause.layer is None else f" of layer {cause.layer}")


def _loss(loss: float | None) -> str:
    return "-" if loss is None else f"{loss:.3f}"


def _ended_at(folder: RunFolder) -> float:
    """When the summary was written, in seconds since 1970; minus infinity where there is none."""
    try:
        return folder.summary.stat().st_mtime
    except OSError:
        return -math.inf
