"""What is said at the end of a sweep: how its runs ended, what failed, where the report is, how to go on."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from normlab.app.announce import announce, shown_path
from normlab.app.sweeps.live import label, result_of
from normlab.app.sweeps.plan import PlannedRun, SweepPlan
from normlab.core.errors import UserError
from normlab.core.records import Outcome
from normlab.report.page import write_report
from normlab.report.results import RunResult

FAILURES = (Outcome.CRASHED, Outcome.OUT_OF_MEMORY)
CRASH = 1
FOLDER_KEY = "hydra.sweep.dir"


def close_sweep(folder: Path, failures: Mapping[str, str]) -> int:
    """Write the report, say what came of the runs; return the exit code: 1 where some failed, else 0.

    ``failures`` are those that the runs could not write down themselves, by folder. Runs that have not ended are no
    failure by themselves: an interrupted sweep is gone on with.
    """
    plan = SweepPlan.read(folder)
    runs = plan.runs(folder)
    results = [result_of(run) for run in runs]
    whys = [_why(run, result, failures) for run, result in zip(runs, results, strict=True)]
    failed = [(run, why) for run, why in zip(runs, whys, strict=True) if why is not None]
    print(f"\n{_counts(plan, runs, results, failures)}")
    if failed:
        print("\nfailed:")
        for run, why in failed:
            print(f"  {label(run.job, plan)}: {why}\n    {shown_path(run.folder.path)}")
    _report(folder)
    print(f"written to: {shown_path(folder)}\nlook closer: tensorboard --logdir {shown_path(folder)}")
    if failed or any(result is None or result.outcome in (None, Outcome.INTERRUPTED) for result in results):
        print(f"go on with it: {command_to_go_on(plan, folder)}")
    return CRASH if any(_has_failed(result) for result in results) else 0


def command_to_go_on(plan: SweepPlan, folder: Path) -> str:
    """The sweep's own command, in its own folder."""
    words = [word for word in shlex.split(plan.command) if not word.startswith(f"{FOLDER_KEY}=")]
    return shlex.join([*words, f"{FOLDER_KEY}={shown_path(folder)}"])


def _report(folder: Path) -> None:
    """Without it the runs are as good; that it failed is said."""
    try:
        print(f"report: {shown_path(write_report(folder))}")
    except UserError:
        pass  # no run has begun
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        announce(f"note: the report failed ({reason}). Type python src/run.py task=report sweep={shown_path(folder)}")


def _counts(
    plan: SweepPlan, runs: Sequence[PlannedRun], results: Sequence[RunResult | None], failures: Mapping[str, str]
) -> str:
    outcomes = Counter(_end(run, result, failures) for run, result in zip(runs, results, strict=True))
    told = ", ".join(f"{count} {name}" for name, count in outcomes.items())
    num_names = len(plan.jobs) - len(results)
    shared = f" ({num_names} more build a model that another has, and were not run again)" if num_names else ""
    return f"{len(results)} runs: {told}{shared}"


def _end(run: PlannedRun, result: RunResult | None, failures: Mapping[str, str]) -> str:
    """A run that took steps and failed without being able to write a summary has crashed all the same."""
    if result is None:
        return "not ended"
    return result.outcome or (Outcome.CRASHED if run.job.folder in failures else "not ended")


def _has_failed(result: RunResult | None) -> bool:
    return result is not None and result.outcome in FAILURES


def _why(run: PlannedRun, result: RunResult | None, failures: Mapping[str, str]) -> str | None:
    """Why a run failed; None where it has not."""
    if result is not None and result.outcome in FAILURES:
        return f"{result.outcome} ({result.facts.get('error') or 'no reason was recorded'})"
    return failures.get(run.job.folder)
