"""The command line: check all of it first, then let Hydra run the job or jobs."""

import os
import signal
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from normlab.app.announce import announce, shown_path
from normlab.app.failures import failure_of
from normlab.app.options import CONFIG_FOLDER
from normlab.app.overrides import with_quoted_folders
from normlab.app.preflight import check_command_line
from normlab.app.resolvers import register_resolvers
from normlab.app.resume import with_recorded_overrides
from normlab.app.streams import lasting_streams
from normlab.core.errors import UserError
from normlab.core.records import Outcome
from normlab.core.run_folder import RunFolder

CRASH, WRONG_INPUT = 1, 2
INTERRUPTED = "interrupted: type the same command again to go on"


@dataclass
class Job:
    """One run of this process."""

    folder: RunFolder
    is_in_sweep: bool
    exit_code: int = 0


def main() -> int:
    """Run what ``sys.argv`` asks for; return the exit code: 0 a result, 1 a crash, 2 wrong input, 130/143 stopped."""
    with lasting_streams():
        return _main()


def _main() -> int:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands its errors on, and one line is made of them below.
    register_resolvers()
    jobs: list[Job] = []

    def job(config: DictConfig) -> None:
        hydra_config = HydraConfig.get()
        jobs.append(Job(RunFolder(Path(hydra_config.runtime.output_dir)), hydra_config.mode == RunMode.MULTIRUN))
        jobs[-1].exit_code = _run_task(config, jobs[-1])

    handler = signal.signal(signal.SIGTERM, _terminate)
    try:
        sys.argv[1:] = check_command_line(with_recorded_overrides(with_quoted_folders(sys.argv[1:])))
        hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="config")(job)()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        announce(f"error: {_one_line(error)}")
        return WRONG_INPUT
    except KeyboardInterrupt:
        announce(INTERRUPTED)
        return 128 + signal.SIGINT
    except OSError as error:  # Hydra's own notes cannot be written, nor then those of any run that would follow
        announce(f"error: {failure_of(error).line}")
        return CRASH
    finally:
        signal.signal(signal.SIGTERM, handler)
        _say_where([job for job in jobs if job.exit_code == CRASH or job.folder.summary.is_file()])
    return max((job.exit_code for job in jobs), default=0)


def _run_task(config: DictConfig, job: Job) -> int:
    """Run the configured task in the folder that Hydra made; wrong input is said and leaves no folder behind."""
    if job.is_in_sweep:
        announce(f"\nrun {HydraConfig.get().job.num + 1}: {job.folder.path.name}")
    task = hydra.utils.instantiate(config.task, _partial_=True)
    try:
        return task(config, job.folder)
    except (UserError, InstantiationException) as error:
        job.folder.discard_if_unused()
        announce(f"error: {_one_line(error)}")
        return WRONG_INPUT
    except (KeyboardInterrupt, SystemExit):
        job.folder.discard_if_unused()
        raise


def _say_where(jobs: list[Job]) -> None:
    """Where the results lie, and the command that shows them; for a sweep also how its runs ended."""
    if not jobs:
        return
    place = jobs[0].folder.path
    if jobs[0].is_in_sweep:
        place = place.parent
        print(_table_of_runs([job.folder for job in jobs]))
    print(f"written to: {shown_path(place)}\nlook closer: tensorboard --logdir {shown_path(place)}")


def _table_of_runs(folders: list[RunFolder]) -> str:
    """One line a run: outcome, last step, validation loss, name; then how many ended how."""
    summaries = [folder.read_summary() for folder in folders]
    lines = ["", f"{'outcome':<14}{'step':>7}{'val loss':>10}  run"]
    for folder, summary in zip(folders, summaries, strict=True):
        loss, steps = summary.get("final_val_loss"), summary.get("steps", "-")
        outcome = summary.get("outcome", Outcome.CRASHED)  # where no summary could be written
        shown_loss = f"{float(loss):.3f}" if loss is not None else "-"
        lines.append(f"{outcome:<14}{steps:>7}{shown_loss:>10}  {folder.path.name}")
    outcomes = Counter(summary.get("outcome", Outcome.CRASHED) for summary in summaries)
    lines.append(f"{len(folders)} runs: " + ", ".join(f"{count} {name}" for name, count in outcomes.items()))
    return "\n".join(lines)


def _terminate(signal_number: int, frame: FrameType | None) -> None:
    """End the process as Ctrl-C does, where no task listens for SIGTERM itself."""
    announce(INTERRUPTED)
    sys.exit(128 + signal_number)


def _one_line(error: BaseException) -> str:
    """What is wrong, as one line: of a UserError that Hydra has wrapped its own words, of other messages the parts."""
    if isinstance(error, InstantiationException) and error.__cause__ is not None:
        return _one_line(error.__cause__)
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("full_key:", "object_type=", "reference_type="))]
    return " ".join(told)
