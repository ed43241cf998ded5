"""The command line: check all of it first, then let Hydra run the job or jobs."""

import os
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from normlab.app.preflight import CONFIG_FOLDER, check_command_line
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

    def job(config: DictConfig) -> None:
        exit_codes.append(_run_task(config))

    try:
        sys.argv[1:] = check_command_line(with_recorded_overrides(sys.argv[1:]))
        hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="config")(job)()
    except (UserError, HydraException, OmegaConfBaseException) as error:
        print(f"error: {_one_line(error)}", file=sys.stderr)
        return WRONG_INPUT
    return max(exit_codes, default=0)


def _run_task(config: DictConfig) -> int:
    """Run the configured task in the folder that Hydra made; wrong input is said and leaves no folder behind."""
    folder = RunFolder(Path(HydraConfig.get().runtime.output_dir))
    task = hydra.utils.instantiate(config.task, _partial_=True)
    try:
        return task(config, folder)
    except UserError as error:
        folder.discard_if_unused()
        print(f"error: {error}", file=sys.stderr)
        return WRONG_INPUT


def _one_line(error: Exception) -> str:
    """The parts of a message of several lines that say what is wrong, as one line."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(("full_key:", "object_type=", "reference_type="))]
    return " ".join(told)
