"""A sweep folder read into one result, at any time: also while it runs, and whatever was damaged."""

from dataclasses import replace
from pathlib import Path

from normlab.core.errors import CheckpointError
from normlab.report.inferred_plan import inferred_plan, overrides_of
from normlab.report.read_run import read_run
from normlab.report.recorded_plan import PLAN, recorded_plan
from normlab.report.results import RunResult, SweepResult
from normlab.report.variants import in_order


def load_sweep(folder: Path) -> SweepResult:
    """All that the folder tells. What cannot be read is left out and remarked upon.

    Raises UserError where there is neither a plan nor a run.
    """
    remarks: list[str] = []
    plan = _plan(folder, remarks)
    runs: list[RunResult] = []
    not_begun: list[RunResult] = []
    for job in plan.not_begun:
        run = read_run(job, remarks.append)
        if run is None:
            not_begun.append(job)
        else:
            runs.append(replace(run, facts={**run.facts, "overrides": overrides_of(run.folder)}))
    remarks += _mixed(runs)
    return replace(
        plan,
        runs=in_order(plan, runs),
        not_begun=in_order(plan, not_begun),
        remarks=list(dict.fromkeys(remarks)),
    )


def _plan(folder: Path, remarks: list[str]) -> SweepResult:
    if (folder / PLAN).exists():
        try:
            return recorded_plan(folder)
        except CheckpointError as error:
            remarks.append(f"{error} Until then that is done.")
    return inferred_plan(folder, remarks.append)


def _mixed(runs: list[RunResult]) -> list[str]:
    """What of the program differs between runs that are to be compared."""
    commits = sorted({str(run.facts["git_commit"]) for run in runs if run.facts.get("git_commit")})
    versions = {str(run.facts["versions"]) for run in runs if run.facts.get("versions")}
    said = []
    if len(commits) > 1:
        said.append(f"The runs are of {len(commits)} versions of the program: {', '.join(commits)}.")
    if len(versions) > 1:
        said.append("The runs were made with different versions of Python or its packages; see results.csv.")
    return said
