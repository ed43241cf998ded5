"""How far a sweep has come, in words."""

from collections import Counter
from dataclasses import dataclass

from normlab.core.records import Outcome
from normlab.report.number_words import count, listed
from normlab.report.results import SweepResult
from normlab.report.shown import distinct_runs

TO_BE_RESUMED = "interrupted (the sweep resumes them when it is started again)"
NO_RESULT = {
    Outcome.INTERRUPTED: TO_BE_RESUMED,
    Outcome.CRASHED: "crashed",
    Outcome.OUT_OF_MEMORY: "ran out of memory",
}


@dataclass(frozen=True)
class Progress:
    """Of the distinct runs: those planned, those that have ended (crashes among them), and how each of them stands."""

    num_jobs: int
    num_runs: int
    num_ended: int
    counts: Counter[str | None]

    @property
    def is_complete(self) -> bool:
        """Whether no run is missing or goes on."""
        return self.num_ended == self.num_runs

    @property
    def text(self) -> str:
        """``All 54 runs have ended: 36 completed and 18 died.``"""
        completed, dead = self.counts[Outcome.COMPLETED], self.counts["dead"]
        said = [f"{completed:,} completed", f"{dead:,} died"]
        said += [f"{self.counts[outcome]:,} {words}" for outcome, words in NO_RESULT.items() if self.counts[outcome]]
        said += [f"{self.counts[None]:,} not ended"] if self.counts[None] else []
        said += [f"{self.counts['waiting']:,} not begun"] if self.counts["waiting"] else []
        return f"{self._ended}: {listed(said)}.{self._shared}"

    @property
    def _ended(self) -> str:
        runs = count(self.num_runs, "run")
        if not self.is_complete:
            return f"{self.num_ended:,} of {runs} {'has' if 1 in (self.num_ended, self.num_runs) else 'have'} ended"
        return "The only run has ended" if self.num_runs == 1 else f"All {runs} have ended"

    @property
    def _shared(self) -> str:
        if self.num_jobs == self.num_runs:
            return ""
        return (
            f" The sweep has {self.num_jobs:,} combinations; those that build the same model share a run, which is "
            "shown under each name."
        )


def progress_of(sweep: SweepResult) -> Progress:
    """Each run counted once, however many names it has."""
    runs = {run.folder: run for run in distinct_runs(sweep)}
    waiting = {run.folder for run in sweep.not_begun} - runs.keys()
    counts: Counter[str | None] = Counter("dead" if run.is_dead else run.outcome for run in runs.values())
    counts["waiting"] = len(waiting)
    unfinished = counts[None] + counts[Outcome.INTERRUPTED] + len(waiting)
    num_runs = len(runs) + len(waiting)
    return Progress(sweep.num_planned, num_runs, num_runs - unfinished, counts)
