"""A sweep that chooses its learning rates itself: hydra/sweeper=frontier."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from omegaconf import DictConfig

from normlab.app.sweeps.found_in_words import found_in_words
from normlab.app.sweeps.launching import JobLauncher
from normlab.app.sweeps.live import result_of
from normlab.app.sweeps.plan import PlannedJob, PlannedRun, SweepPlan
from normlab.app.sweeps.planning import RATE, planned_job
from normlab.app.sweeps.rates import RateGrid
from normlab.app.sweeps.searches import RateSearches
from normlab.core.records import Outcome
from normlab.core.run_folder import RunFolder
from normlab.report.results import RunResult
from normlab.report.variants import Variant, label_of

Compose = Callable[[Sequence[str]], DictConfig]
"""From the overrides of a job to its configuration, with Hydra's part."""


@dataclass(frozen=True)
class FrontierRounds:
    """Runs the searches of a plan: in every round the next rate of each, until all have ended.

    What a round runs is appended to the plan before its first run. Runs that an earlier start of the sweep has left are
    read instead of run.
    """

    grid: RateGrid
    compose: Compose

    def __call__(self, launcher: JobLauncher) -> None:
        templates = {_pair(job): job for job in SweepPlan.read(launcher.folder).searches}
        searches = RateSearches(self.grid, list(templates))
        while wanted := searches.next_runs():
            jobs = [self._job(templates[variant, seed], rate) for variant, seed, rate in wanted]
            runs = self._planned(launcher, jobs)
            launcher.launch(runs)
            for (variant, seed, rate), run in zip(wanted, runs, strict=True):
                result = result_of(run)
                if result is not None and result.is_dead:
                    searches.tell(variant, seed, rate, None)
                elif result is not None and result.outcome == Outcome.COMPLETED and result.final_val_loss is not None:
                    searches.tell(variant, seed, rate, result.final_val_loss)
                else:
                    searches.tell_no_result(variant, seed, rate, _why(result))
        print("\nlearning rates:")
        for variant, found in searches.found().items():
            for line in found_in_words(label_of(variant), found, self.grid):
                print(line)

    def _job(self, template: PlannedJob, rate: float) -> PlannedJob:
        overrides = [*template.overrides, f"{RATE}={rate:g}"]
        return planned_job(overrides, self.compose(overrides), list(template.choices))

    def _planned(self, launcher: JobLauncher, jobs: Sequence[PlannedJob]) -> list[PlannedRun]:
        """The runs of these jobs, which are part of the written plan from now on, in the folders that it gives them."""
        plan = SweepPlan.read(launcher.folder)
        folders = {job.fingerprint: job.folder for job in reversed(plan.jobs)}
        known = {(job.fingerprint, _pair(job)) for job in plan.jobs}
        jobs = [replace(job, folder=folders.setdefault(job.fingerprint, job.folder)) for job in jobs]
        new = [job for job in jobs if (job.fingerprint, _pair(job)) not in known]
        if new:
            plan.with_jobs([*plan.jobs, *new]).write(launcher.folder)
        return [PlannedRun(job, RunFolder(launcher.folder / job.folder)) for job in jobs]


def _pair(job: PlannedJob) -> tuple[Variant, int]:
    return tuple(job.choices.items()), job.seed


def _why(result: RunResult | None) -> str:
    return "did not end" if result is None or result.outcome is None else f"ended {result.outcome.replace('_', ' ')}"
