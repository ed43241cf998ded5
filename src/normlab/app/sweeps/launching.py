"""Running the jobs of a plan through one of Hydra's launchers, so that no run's end is another's."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep

from hydra.plugins.launcher import Launcher

from normlab.app.announce import announce
from normlab.app.failures import failure_of
from normlab.app.job_end import STOPPED, JobEnd
from normlab.app.run_lock import is_being_written
from normlab.app.sweeps.live import LiveSweep, has_ended
from normlab.app.sweeps.plan import PlannedRun, SweepPlan

CRASH = 1
LOOK_SECONDS = 1.0
QUIET_SECONDS = 60.0
"""How long nobody writes the runs of a launcher that has failed, before they are given to it again."""
IN_THIS_PROCESS = "BasicLauncher"
"""By name, for Hydra's search for plugins imports its own once more, as other classes."""
ENDS_ITS_PROCESSES = ("JoblibLauncher", "PackedLauncher")
"""Launchers that take all their processes along when they fail, or have none; others leave them to themselves."""


class SweepStopped(Exception):
    """A signal has ended a run and with it the sweep; carries the exit code."""

    def __init__(self, exit_code: int):
        super().__init__()
        self.exit_code = exit_code


@dataclass
class JobLauncher:
    """Launches the runs of the plan in a sweep's folder; each that ends is shown.

    ``exit_code`` is the largest of theirs: 0 a result, 1 a crash, 2 wrong input. ``failures`` has, by the run's folder,
    why it has no result, where the run could not write that down itself.
    """

    launcher: Launcher
    folder: Path
    live: LiveSweep
    num_launched: int = 0
    exit_code: int = 0
    failures: dict[str, str] = field(default_factory=dict)

    def launch(self, runs: Sequence[PlannedRun]) -> None:
        """Give every run that has no result to the launcher, and return when they have ended or cannot be ended.

        Raises SweepStopped where a signal has ended one.
        """
        todo = [run for run in runs if run.folder.result() is None]
        if type(self.launcher).__name__ == IN_THIS_PROCESS:
            for run in todo:
                self._launch_here(run)
        elif todo:
            with self._shown_meanwhile():
                self._launch_elsewhere(todo)

    def _launch_here(self, run: PlannedRun) -> None:
        """In this process. What goes wrong before the run begins, as a disk too full for Hydra's notes, is said."""
        try:
            self._hand_over([run])
        except SweepStopped:
            raise
        except Exception as error:
            self._fail(run, failure_of(error, run.folder.path).line)
        finally:
            self._show()

    def _fail(self, run: PlannedRun, why: str) -> None:
        announce(f"error: {run.job.name}: {why}")
        self.failures[run.job.folder] = why
        self.exit_code = max(self.exit_code, CRASH)

    def _launch_elsewhere(self, runs: Sequence[PlannedRun]) -> None:
        """In other processes, any of which may be killed: the runs that this took along are given out again.

        Those that had begun when it happened then have a process each; one that is lost in it once more stays lost.
        Where nothing had even begun, it is the launcher that fails.
        """
        self._wait_for_orphans(runs)
        suspects: list[PlannedRun] = []
        waiting = [run for run in runs if run.folder.result() is None]
        while waiting:
            error = self._error_of_launcher(waiting)
            if error is None:
                break
            self._wait_until_quiet(waiting)
            lost = self._not_ended(waiting)
            begun = [run for run in lost if run.folder.lock.exists()]
            if lost == waiting and not begun:
                announce("error: the launcher cannot start the runs. Try hydra/launcher=basic.")
                self.failures |= {run.job.folder: f"the launcher could not start it ({error})" for run in lost}
                self.exit_code = max(self.exit_code, CRASH)
                break
            suspects += begun
            waiting = [run for run in lost if run not in begun]
        for run in suspects:
            if self._error_of_launcher([run]) is not None:
                self._fail(run, "its process was killed")

    def _wait_for_orphans(self, runs: Sequence[PlannedRun]) -> None:
        """Until nobody writes the runs: where a sweep itself was killed, its processes may still be at work."""
        if any(is_being_written(run.folder) for run in runs):
            announce("note: processes of an earlier start of this sweep are at work; waiting for them.")
        while any(is_being_written(run.folder) for run in runs):
            sleep(LOOK_SECONDS)

    def _error_of_launcher(self, runs: Sequence[PlannedRun]) -> str | None:
        """What kept the launcher from coming back from these runs by itself, which is said; None where it came."""
        try:
            self._hand_over(runs)
        except (KeyboardInterrupt, SystemExit, SweepStopped):
            raise
        except Exception as error:  # each launcher has its own for a process that is gone
            names = ", ".join(run.job.name for run in self._not_ended(runs)) or "none"
            told = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}".rstrip(": ")
            announce(f"note: a process of the sweep has ended unasked ({told}). Not ended: {names}.")
            return told
        return None

    def _hand_over(self, runs: Sequence[PlannedRun]) -> None:
        jobs = [[*run.job.overrides, f"hydra.sweep.subdir='{run.job.folder}'"] for run in runs]
        first = self.num_launched
        self.num_launched += len(jobs)
        returned = self.launcher.launch(jobs, initial_job_idx=first)
        ends: list[JobEnd] = [job.return_value for job in returned]
        for run, end in zip(runs, ends, strict=True):
            is_silent = end.exit_code == CRASH and not run.folder.summary.is_file()
            if end.reason is not None or is_silent:
                self.failures[run.job.folder] = end.reason or "it could not write down why"
        code = max(end.exit_code for end in ends)
        if code >= STOPPED:
            raise SweepStopped(code)
        self.exit_code = max(self.exit_code, code)

    def _not_ended(self, runs: Sequence[PlannedRun]) -> list[PlannedRun]:
        started = SweepPlan.read(self.folder).started
        return [run for run in runs if not has_ended(run.folder, started)]

    def _wait_until_quiet(self, runs: Sequence[PlannedRun]) -> None:
        """Until no process has written any of the runs for a while: a launcher may leave those that it started."""
        if type(self.launcher).__name__ in ENDS_ITS_PROCESSES:
            return
        quiet_since = monotonic()
        while self._not_ended(runs) and monotonic() - quiet_since < QUIET_SECONDS:
            if any(is_being_written(run.folder) for run in self._not_ended(runs)):
                quiet_since = monotonic()
            sleep(LOOK_SECONDS)

    def _show(self) -> None:
        for line in self.live.look():
            print(line, flush=True)

    @contextmanager
    def _shown_meanwhile(self) -> Iterator[None]:
        """While inside, a thread shows every run that ends."""
        is_over = threading.Event()

        def look() -> None:
            while not is_over.wait(LOOK_SECONDS):
                self._show()

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
            self._show()
