"""The command line: check all of it first, then let Hydra run the job or jobs."""

import os
import sys
from collections import Counter
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from normlab.app.announce import announce
from normlab.app.options import CONFIG_FOLDER
from normlab.app.preflight import check_command_line
from normlab.app.resolvers import register_resolvers
from normlab.app.resume import with_recorded_overrides
from normlab.core.errors import UserError
from normlab.core.run_folder import RunFolder

WRONG_INPUT = 2


def main() -> int:
    """Run what ``sys.argv`` asks for; return the exit code: 0 a result, 1 a crash, 2 wrong input, 130/143 stopped."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then hands its errors on, and one line is made of them below.
    register_resolvers()
    exit_codes: list[int] = []
    run_folders: list[RunFolder] = []

    def job(config: DictConfig) -> None:
        folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
        run_folders.append(folder)
        exit_codes.append(_run_task(config, folder))

    try:
        sys.argv[1:] = check_command_line(with_recorded_overrides(sys.argv[1:]))
        hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="config")(job)()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        announce(f"error: {_one_line(error)}")
        return WRONG_INPUT
    finally:
        _say_where(run_folders)
    return max(exit_codes, default=0)


def _run_task(config: DictConfig, folder: RunFolder) -> int:
    """Run the configured task in the folder that Hydra made; wrong input is said and leaves no folder behind."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        announce(f"\nrun {hydra_config.job.num + 1}: {folder.path.name}")
    task = hydra.utils.instantiate(config.task, _partial_=True)
    try:
        return task(config, folder)
    except UserError as error:
        folder.discard_if_unused()
        announce(f"error: {error}")
        return WRONG_INPUT


def _say_where(run_folders: list[RunFolder]) -> None:
    """Where the results lie, and the command that shows them; for a sweep also how its runs ended."""
    written = [folder for folder in run_folders if folder.summary.is_file()]
    if not written:
        return
    place = written[0].path
    if len(run_folders) > 1:
        outcomes = Counter(str(folder.read_summary()["outcome"]) for folder in written)
        print(f"\n{len(run_folders)} runs: " + ", ".join(f"{count} {name}" for name, count in outcomes.items()))
        place = place.parent
    shown = place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place
    print(f"written to: {shown}\nlook closer: tensorboard --logdir {shown}")


def _one_line(error: Exception) -> str:
    """The parts of a message of several lines that say what is wrong, as one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("full_key:", "object_type=", "reference_type="))]
    return " ".join(told)
