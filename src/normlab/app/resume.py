"""Continuing a run: its own recorded command line, its own folder, and no change that could alter a number."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from normlab.app.canonical import canonical, differences
from normlab.core.errors import CheckpointError, ConfigError
from normlab.core.run_folder import RunFolder


def with_recorded_overrides(arguments: Sequence[str]) -> list[str]:
    """The arguments, preceded by the overrides that the run named by ``resume=`` was started with.

    Hydra's own notes in the folder stay as they were. Without ``resume=`` the arguments come back unchanged.
    """
    path = next((text.partition("=")[2] for text in arguments if text.startswith("resume=")), "null")
    if path in ("null", ""):
        return list(arguments)
    if "--multirun" in arguments or "-m" in arguments:
        raise ConfigError(f"resume continues one run; got it with --multirun. Type resume={shlex.quote(path)} alone.")
    folder = RunFolder.existing(path.strip("'\""), "resume")
    recorded = OmegaConf.load(Path(folder.path, ".hydra", "overrides.yaml"))
    return [*map(str, recorded), *arguments, f"hydra.run.dir={path}", "hydra.output_subdir=null"]


def check_same_experiment(config: DictConfig) -> None:
    """Raise ConfigError where the composed configuration differs from the one recorded in the folder to resume."""
    path = RunFolder.existing(config.resume, "resume").config
    try:
        recorded = canonical(OmegaConf.load(path))  # type: ignore[arg-type]
    except (YAMLError, OmegaConfBaseException, LookupError, TypeError, AttributeError):
        raise CheckpointError(f"{path} is damaged, so the run cannot be resumed. Start it again.") from None
    changed = differences(recorded, canonical(config))
    if changed:
        key, (before, now) = next(iter(changed.items()))
        raise ConfigError(
            f"resume must continue the same experiment; {key} was {before} in {config.resume} and is {now} now. "
            f"Remove that override, or start a new run without resume."
        )
