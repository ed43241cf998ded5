"""Continuing a run: its own recorded command line, its own folder, and no change that could alter a number."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from normlab.app.canonical import canonical, differences
from normlab.app.overrides import parse_override
from normlab.app.targets import check_targets
from normlab.core.errors import CheckpointError, ConfigError
from normlab.core.run_folder import RunFolder


def with_recorded_overrides(arguments: Sequence[str]) -> list[str]:
    """The arguments, preceded by the overrides that the run named by ``resume=`` was started with.

    What the run was allowed to name in ``allow_targets`` has to be typed again: a folder admits no code. Hydra's own
    notes in it stay as they were. Without ``resume=`` the arguments come back unchanged.
    """
    path = next((text.partition("=")[2] for text in arguments if text.startswith("resume=")), "null")
    if path in ("null", ""):
        return list(arguments)
    if "--multirun" in arguments or "-m" in arguments:
        raise ConfigError(f"resume continues one run; got it with --multirun. Type resume={shlex.quote(path)} alone.")
    folder = RunFolder.existing(path.strip("'\""), "resume")
    recorded = map(str, OmegaConf.load(Path(folder.path, ".hydra", "overrides.yaml")))
    harmless = [text for text in recorded if parse_override(text).key_or_group != "allow_targets"]
    return [*harmless, *arguments, f"hydra.run.dir={path}", "hydra.output_subdir=null"]


def check_same_experiment(config: DictConfig, admitted: Sequence[str]) -> None:
    """Raise ConfigError where the composed configuration differs from the one recorded in the folder to resume.

    The recorded one may name no more code than the ``admitted`` packages, like any other.
    """
    path = RunFolder.existing(config.resume, "resume").config
    try:
        loaded = OmegaConf.load(path)
        check_targets(loaded, admitted)  # type: ignore[arg-type]
        recorded = canonical(loaded)  # type: ignore[arg-type]
    except (YAMLError, OmegaConfBaseException, LookupError, TypeError, AttributeError):
        raise CheckpointError(f"{path} is damaged, so the run cannot be resumed. Start it again.") from None
    changed = differences(recorded, canonical(config))
    if changed:
        key, (before, now) = next(iter(changed.items()))
        raise ConfigError(
            f"resume must continue the same experiment; {key} was {before} in {config.resume} and is {now} now. "
            f"Remove that override, or start a new run without resume."
        )
