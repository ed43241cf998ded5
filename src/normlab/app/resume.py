"""Continuing a run: its own recorded command line, its own folder, and no change that could alter a number."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from normlab.app.canonical import canonical, differences
from normlab.app.machine import recorded_choice
from normlab.app.overrides import parse_override
from normlab.app.recorded import DAMAGE, damaged, recorded_config
from normlab.core.errors import ConfigError, UserError
from normlab.core.run_folder import RunFolder

AUTO = "auto"


def with_recorded_overrides(arguments: Sequence[str]) -> list[str]:
    """The arguments, preceded by the overrides that the run named by ``resume=`` was started with.

    What the run was allowed to name in ``allow_targets`` has to be typed again: a folder admits no code. Hydra's own
    notes in it stay as they were. Without ``resume=``, or with ``resume=auto``, which is decided when the
    configuration is known, the arguments come back unchanged.
    """
    path = next((text.partition("=")[2] for text in reversed(arguments) if text.startswith("resume=")), "null")
    if path in ("null", ""):
        return list(arguments)
    if "--multirun" in arguments or "-m" in arguments:
        meant = "resume=<its folder>" if path == AUTO else f"resume={shlex.quote(path)}"
        raise ConfigError(f"resume continues one run; got it with --multirun. Type {meant} alone.")
    if path == AUTO:
        return list(arguments)
    folder = _begun(path.strip("'\""))
    recorded = _recorded_overrides(folder)
    harmless = [text for text in recorded if parse_override(text).key_or_group != "allow_targets"]
    if folder.config.is_file():
        harmless += recorded_choice(recorded, folder.config)
    return [*harmless, *arguments, f"hydra.run.dir={path}", "hydra.output_subdir=null"]


def check_same_experiment(config: DictConfig, admitted: Sequence[str]) -> None:
    """Raise ConfigError where the composed configuration differs from the one recorded in the folder to resume.

    The recorded one may name no more code than the ``admitted`` packages, like any other. A run that ended before it
    recorded one has taken no step that could differ.
    """
    folder = _begun(config.resume)
    path = folder.config
    if not path.is_file() and not folder.metrics.is_file():
        return
    loaded = recorded_config(path, admitted)
    try:
        recorded = canonical(loaded)
    except UserError:
        raise
    except DAMAGE:
        raise damaged(path) from None
    changed = differences(recorded, canonical(config))
    if changed:
        key, (before, now) = next(iter(changed.items()))
        raise ConfigError(
            f"resume must continue the same experiment; {key} was {before} in {config.resume} and is {now} now. "
            f"Remove that override, or start a new run without resume."
        )


def _begun(path: str) -> RunFolder:
    """The run folder at ``path``: one with a configuration, or at least the command line that it was started with.

    A process that was killed as it noted that has left an empty file.
    """
    folder = RunFolder(Path(path))
    notes = _notes_of(folder)
    has_notes = notes.is_file() and notes.stat().st_size > 0
    return folder if has_notes else RunFolder.existing(path, "resume")


def _recorded_overrides(folder: RunFolder) -> list[str]:
    try:
        return [str(text) for text in OmegaConf.load(_notes_of(folder))]
    except DAMAGE:
        raise damaged(_notes_of(folder)) from None


def _notes_of(folder: RunFolder) -> Path:
    """The overrides that Hydra noted."""
    return folder.path / ".hydra" / "overrides.yaml"
