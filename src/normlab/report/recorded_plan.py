"""The plan that a sweep wrote down before its first run: sweep.json."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normlab.core.errors import CheckpointError
from normlab.core.strict_json import read_strict_json
from normlab.report.read_run import planned_run
from normlab.report.results import RunResult, SweepResult

PLAN = "sweep.json"
FORMAT = 1
NO_CHOICE = ("optimizer.lr", "seed")


def recorded_plan(folder: Path) -> SweepResult:
    """The sweep with no run begun; raises CheckpointError where sweep.json is damaged or of another format."""
    path = folder / PLAN
    try:
        plan = read_strict_json(path)
        if not isinstance(plan, dict) or plan.get("format") != FORMAT:
            raise ValueError(f"it must be an object of format {FORMAT}")
        return _sweep(folder, plan)
    except (OSError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged: {error}. Delete it to have the plan told from the runs.") from None


def _sweep(folder: Path, plan: Mapping[str, Any]) -> SweepResult:
    jobs = [_job(folder, job) for job in plan["jobs"]]
    baseline = plan.get("baseline")
    return SweepResult(
        folder=folder,
        command=str(plan["command"]),
        experiment=plan.get("experiment"),
        question=plan.get("question"),
        baseline=None if baseline is None else {str(key): str(value) for key, value in baseline.items()},
        claims=[dict(claim) for claim in plan.get("claims") or []],
        varied={
            str(key): [str(value) for value in values] for key, values in plan["varied"].items() if key not in NO_CHOICE
        },
        runs=[],
        num_planned=len(jobs),
        not_begun=jobs,
    )


def _job(folder: Path, job: Mapping[str, Any]) -> RunResult:
    lr = job.get("lr")
    return planned_run(
        name=str(job["name"]),
        folder=folder / str(job["folder"]),
        choices={str(key): str(value) for key, value in job["choices"].items() if key not in NO_CHOICE},
        lr=None if lr is None else float(lr),
        seed=int(job["seed"]),
        fingerprint=job.get("fingerprint"),
        planned_steps=int(job["planned_steps"]),
        facts={},
    )
