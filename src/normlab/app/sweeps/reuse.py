"""reuse=global: results of other sweeps and runs, taken instead of computing them again."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from normlab.app.announce import announce
from normlab.app.provenance import git_commit, versions
from normlab.app.sweeps.plan import SweepPlan
from normlab.core.errors import CheckpointError
from normlab.core.run_folder import RESULTS, RunFolder

DEPTH = 3
"""How far below a root a run may be: <date>/<time>/<run>."""


def version_of_code(commit: Any, found: Any) -> tuple[Any, Any]:
    """What of a run's provenance could change its numbers; two runs with the same may stand for each other."""
    return commit, found.get("torch") if isinstance(found, Mapping) else None


def with_results_from_elsewhere(plan: SweepPlan, folder: Path, roots: Sequence[Path]) -> SweepPlan:
    """The plan, whose jobs without a result take one of the same fingerprint and version of the code, if there is one.

    It is looked for at most ``DEPTH`` folders below each root; how many were found, and passed over, is said.
    """
    done = {run.job.fingerprint for run in plan.runs(folder) if run.folder.result() is not None}
    wanted = {job.fingerprint for job in plan.jobs} - done
    here = version_of_code(git_commit(), versions())
    found: dict[str, Path] = {}
    of_other_versions: set[str] = set()
    for path, summary in _results(roots):
        fingerprint = summary.get("fingerprint")
        if fingerprint not in wanted or fingerprint in found:
            continue
        if version_of_code(summary.get("git_commit"), summary.get("versions")) == here:
            found[fingerprint] = path
        else:
            of_other_versions.add(fingerprint)
    announce(f"reuse=global: {len(found)} of {len(wanted)} runs have a result elsewhere.")
    if passed_over := len(of_other_versions - found.keys()):
        announce(f"note: results of {passed_over} more are of another version of the code or of torch: not taken.")
    jobs = [
        replace(job, folder=str(found[job.fingerprint].resolve())) if job.fingerprint in found else job
        for job in plan.jobs
    ]
    return replace(plan, jobs=jobs)


def _results(roots: Sequence[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Folder and summary of every run with a result, in the order of their names; damaged ones are passed over."""
    seen: set[Path] = set()
    for root in roots:
        for depth in range(1, DEPTH + 1):
            for path in sorted(root.glob("/".join(["*"] * depth + ["summary.json"]))):
                folder = path.parent.resolve()
                if folder in seen:
                    continue
                seen.add(folder)
                try:
                    summary = RunFolder(folder).read_summary()
                except CheckpointError:
                    continue
                if summary.get("outcome") in RESULTS:
                    yield folder, summary
