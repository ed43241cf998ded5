"""The plan of a sweep, written down before its first run: sweep.json in the sweep's folder."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from normlab.core.errors import CheckpointError
from normlab.core.files import write_whole
from normlab.core.records import encode_json
from normlab.core.run_folder import RunFolder
from normlab.core.strict_json import read_strict_json
from normlab.report.recorded_plan import FORMAT, PLAN


@dataclass(frozen=True, kw_only=True)
class PlannedJob:
    """One run to be made. ``folder`` is relative to the sweep's, or absolute where a run of another one is taken.

    ``choices`` are what the sweep varies apart from ``lr`` and ``seed``. Jobs that build the same model have the same
    fingerprint and folder, and are one run.
    """

    name: str
    folder: str
    overrides: Sequence[str]
    choices: Mapping[str, str]
    lr: float
    seed: int
    fingerprint: str
    planned_steps: int


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What a sweep asks, and its jobs; ``started`` is when it was started last, in seconds since 1970.

    ``searches`` are what a sweeper that chooses rates itself begins with: jobs at the configuration's own rate.
    """

    command: str
    experiment: str | None
    question: str | None
    baseline: Mapping[str, str] | None
    claims: Sequence[Mapping[str, Any]]
    varied: Mapping[str, Sequence[str]]
    jobs: Sequence[PlannedJob]
    started: float
    searches: Sequence[PlannedJob] = ()

    def write(self, folder: Path) -> None:
        """Replace the plan in a sweep's folder."""
        content = {"format": FORMAT, **asdict(self)}
        write_whole(folder / PLAN, encode_json(content, indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "SweepPlan":
        """The plan in a sweep's folder; raises CheckpointError where there is none, or a damaged one."""
        path = folder / PLAN
        try:
            found = read_strict_json(path)
            if found.pop("format") != FORMAT:
                raise ValueError(f"it must be of format {FORMAT}")
            for key in ("jobs", "searches"):
                found[key] = [PlannedJob(**job) for job in found[key]]
            return cls(**found)
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise CheckpointError(f"{path} is damaged: {error}. Delete it to have the sweep planned anew.") from None

    def runs(self, folder: Path) -> list["PlannedRun"]:
        """The distinct runs in order, each with the first job that asks for it."""
        first: dict[str, PlannedJob] = {}
        for job in self.jobs:
            first.setdefault(job.folder, job)
        return [PlannedRun(job, RunFolder(folder / job.folder)) for job in first.values()]

    def with_jobs(self, jobs: Sequence[PlannedJob]) -> "SweepPlan":
        """The same plan with other jobs, and the values that these vary."""
        keys = list(dict.fromkeys(key for job in jobs for key in job.choices))
        varied = {key: list(dict.fromkeys(job.choices[key] for job in jobs)) for key in keys}
        return replace(self, jobs=list(jobs), varied={key: values for key, values in varied.items() if values})


@dataclass(frozen=True)
class PlannedRun:
    """A run of a plan, and where it is."""

    job: PlannedJob
    folder: RunFolder
