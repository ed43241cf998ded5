"""One sweep from its plan to its report, for a sweeper plugin to call."""

import signal
from collections.abc import Callable
from pathlib import Path

from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig

from normlab.app.announce import announce
from normlab.app.job_end import STOPPED
from normlab.app.run_lock import sole_writer
from normlab.app.sweeps.closing import close_sweep
from normlab.app.sweeps.launching import JobLauncher, SweepStopped
from normlab.app.sweeps.live import LiveSweep
from normlab.app.sweeps.plan import SweepPlan
from normlab.app.validate import TRAIN
from normlab.core.run_folder import RunFolder

Rounds = Callable[[JobLauncher], None]


def run_sweep(folder: Path, launcher: Launcher, run_rounds: Rounds) -> int:
    """Let ``run_rounds`` launch what is to run, close the sweep however that ends; return the exit code.

    The folder, which the preflight has claimed for this process, is free again afterwards.
    """
    with sole_writer(RunFolder(folder)):
        return _run_sweep(folder, launcher, run_rounds)


def _run_sweep(folder: Path, launcher: Launcher, run_rounds: Rounds) -> int:
    live = LiveSweep(folder)
    num_earlier = live.pass_over_earlier()
    if num_earlier:
        announce(f"{num_earlier} runs have a result already: they are not run again.")
    jobs = JobLauncher(launcher, folder, live)
    try:
        run_rounds(jobs)
    except SweepStopped as stopped:
        close_sweep(folder, jobs.failures)
        return stopped.exit_code
    except KeyboardInterrupt:
        close_sweep(folder, jobs.failures)
        return STOPPED + signal.SIGINT
    except BaseException:
        close_sweep(folder, jobs.failures)
        raise
    return max(jobs.exit_code, close_sweep(folder, jobs.failures))


def is_planned(config: DictConfig) -> bool:
    """Whether the sweep is one of trainings, which the preflight has planned."""
    return config.task._target_ == TRAIN


def run_all(launcher: JobLauncher) -> None:
    """All runs of the plan."""
    launcher.launch(SweepPlan.read(launcher.folder).runs(launcher.folder))
