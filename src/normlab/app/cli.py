"""The command line: check all of it first, then let Hydra run the job or jobs."""

import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from normlab.app.announce import announce, shown_path
from normlab.app.failures import failure_of
from normlab.app.fresh import forget_earlier_runs
from normlab.app.job_end import STOPPED, JobEnd
from normlab.app.mode import is_in_sweep
from normlab.app.options import CONFIG_FOLDER
from normlab.app.orphans import end_with_parent
from normlab.app.overrides import with_quoted_folders
from normlab.app.preflight import check_command_line
from normlab.app.resolvers import register_resolvers
from normlab.app.resume import with_recorded_overrides
from normlab.app.scheduler import is_queued_job, leave_to_scheduler
from normlab.app.streams import lasting_streams
from normlab.app.together import arguments_of_all, silent_unless_main
from normlab.app.validate import TRAIN
from normlab.core.errors import UserError
from normlab.core.run_folder import RunFolder
from normlab.train.distributed.group import joined, this_world
from normlab.train.distributed.place import place_in_job, place_in_torchrun
from normlab.train.distributed.watch import PeerLost
from normlab.train.distributed.world import MainFailed, World

CRASH, WRONG_INPUT = 1, 2
INTERRUPTED = "interrupted: type the same command again to go on"


class Command:
    """What Hydra calls for every job, in this process or another; knows the worst exit code of its jobs.

    ``ran_in`` is the folder of the last job that was a run of its own and left something there.
    """

    def __init__(self) -> None:
        self.exit_code = 0
        self.ran_in: RunFolder | None = None
        self.process = os.getpid()

    def __call__(self, config: DictConfig) -> JobEnd:
        with joined(place_in_job()):
            end = self._run(config)
        if is_in_sweep() and end.exit_code > STOPPED and is_queued_job():
            leave_to_scheduler(end.exit_code - STOPPED)
        return end

    def _run(self, config: DictConfig) -> JobEnd:
        hydra_config = HydraConfig.get()
        folder = RunFolder(Path(hydra_config.runtime.output_dir))
        if is_in_sweep():
            end = _run_job_of_sweep(config, folder, hydra_config.job.num)
        else:
            self.ran_in = folder
            end = _run_task(config, folder)
        self.exit_code = max(self.exit_code, end.exit_code)
        return end

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A launcher's other process composes the configuration of its job: it needs the resolvers first."""
        self.__dict__.update(state)
        register_resolvers()
        if self.process != os.getpid():
            end_with_parent()


def main() -> int:
    """Run what ``sys.argv`` asks for; return the exit code: 0 a result, 1 a crash, 2 wrong input, 130/143 stopped."""
    with lasting_streams():
        try:
            with joined(place_in_torchrun()) as world, silent_unless_main(world):
                return _main(world)
        except PeerLost as lost:
            if not lost.is_told:
                announce(f"error: {lost}")
            return CRASH


def _main(world: World) -> int:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands its errors on, and one line is made of them below.
    register_resolvers()
    command = Command()
    handler = signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.argv[1:] = arguments_of_all(world, lambda: _checked(sys.argv[1:]))
        hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="config")(command)()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        announce(f"error: {_one_line(error)}")
        return WRONG_INPUT
    except MainFailed as failed:
        return failed.exit_code
    except KeyboardInterrupt:
        announce(INTERRUPTED)
        return 128 + signal.SIGINT
    except OSError as error:  # Hydra's own notes cannot be written, nor then those of any run that would follow
        announce(f"error: {failure_of(error).line}")
        return CRASH
    finally:
        signal.signal(signal.SIGTERM, handler)
        _say_where(command)
    return command.exit_code


def _checked(arguments: list[str]) -> list[str]:
    return check_command_line(with_recorded_overrides(with_quoted_folders(arguments)))


def _run_job_of_sweep(config: DictConfig, folder: RunFolder, number: int) -> JobEnd:
    """A training goes on where an earlier start of the sweep has left it; other tasks are announced.

    Whatever goes wrong is this job's alone.
    """
    forget_earlier_runs()
    if config.task._target_ != TRAIN:
        announce(f"\nrun {number + 1}: {folder.path.name}")
    elif this_world().from_main(folder.metrics.is_file):
        config.resume = str(folder.path)
    try:
        return _run_task(config, folder)
    except MainFailed as failed:
        return JobEnd(failed.exit_code)
    except PeerLost:
        raise
    except Exception as error:
        failure = failure_of(error, folder.path)
        if failure.is_ours:
            traceback.print_exc()
        announce(f"error: {folder.path.name}: {failure.line}")
        this_world().abandon()
        return JobEnd(CRASH, failure.line)


def _run_task(config: DictConfig, folder: RunFolder) -> JobEnd:
    """Run the configured task in the folder that Hydra made; wrong input is said and leaves no folder behind."""
    task = hydra.utils.instantiate(config.task, _partial_=True)
    try:
        return JobEnd(task(config, folder))
    except (UserError, InstantiationException) as error:
        folder.discard_if_unused()
        announce(f"error: {_one_line(error)}")
        this_world().abandon()
        return JobEnd(WRONG_INPUT, _one_line(error))
    except MainFailed as failed:
        return JobEnd(failed.exit_code)
    except (KeyboardInterrupt, SystemExit):
        folder.discard_if_unused()
        raise


def _say_where(command: Command) -> None:
    """Where the results of a single run lie, and the command that shows them; a sweep has said it."""
    folder = command.ran_in
    if folder is not None and this_world().is_main and (command.exit_code == CRASH or folder.summary.is_file()):
        place = shown_path(folder.path)
        print(f"written to: {place}\nlook closer: tensorboard --logdir {place}")


def _terminate(signal_number: int, frame: FrameType | None) -> None:
    """End the process as Ctrl-C does, where no task listens for SIGTERM itself."""
    if this_world().is_main:
        announce(INTERRUPTED)
    sys.exit(128 + signal_number)


def _one_line(error: BaseException) -> str:
    """What is wrong, as one line: of a UserError that Hydra has wrapped its own words, of other messages the parts."""
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return _one_line(error.__cause__)
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("full_key:", "object_type=", "reference_type="))]
    return " ".join(told)
