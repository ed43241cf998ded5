"""Which folder a run or a sweep writes to, when the command line does not say."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

from omegaconf import DictConfig, OmegaConf

from normlab.app.run_lock import claim
from normlab.app.validate import TRAIN
from normlab.core.errors import ConfigError
from normlab.core.run_folder import RunFolder


def claimed_folder(config: DictConfig, is_multirun: bool) -> list[str]:
    """Make the folders of a run or sweep; return the override that gives Hydra the default one, made anew.

    Hydra names folders by the second, so two processes that start together would share one. Here the second comer
    takes the name with _2, _3, … behind it. The folder of a training is this process's alone from here on, and Hydra's
    notes in the folder of a run are not written again. Raises ConfigError where a folder, the cache among them, cannot
    be written, holds another run or is being written by another process.
    """
    key = "hydra.sweep.dir" if is_multirun else "hydra.run.dir"
    wanted = Path(OmegaConf.select(config, key))
    _make_writable(Path(config.cache), "cache")
    is_given = any(override.startswith(f"{key}=") for override in config.hydra.overrides.hydra)
    is_here = wanted.resolve() == Path.cwd()
    if is_given and not is_here:
        _make_writable(wanted, key)
    folder = RunFolder(wanted if is_given or is_here else _make_new(wanted, key))
    if config.task._target_ == TRAIN:
        claim(folder)
    if not is_multirun:
        check_folder_is_free(config, folder)
    return [] if is_given or is_here else [f"{key}={folder.path}"]


def sweep_folder(config: DictConfig, claimed: Sequence[str]) -> Path:
    """The folder of a sweep, from what :func:`claimed_folder` returned for it."""
    return Path(claimed[0].partition("=")[2] if claimed else config.hydra.sweep.dir)


def check_folder_is_free(config: DictConfig, folder: RunFolder) -> None:
    """Raise ConfigError where the folder holds a run, unless that is the one to resume."""
    if config.get("resume") is None and folder.metrics.is_file():
        raise ConfigError(
            f"A new run needs a folder of its own; {folder.path} holds a run already. "
            f"Type resume={folder.path} to go on with it, or name another hydra.run.dir."
        )


def _make_writable(path: Path, key: str) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _unwritable(path, key, error) from None


def _unwritable(path: Path, key: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"{key} must name a folder that can be written; got '{path}' ({error.strerror}). Type {key}=<another folder>."
    )


def _make_new(wanted: Path, key: str) -> Path:
    attempt = 1
    while True:
        path = wanted if attempt == 1 else wanted.with_name(f"{wanted.name}_{attempt}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            attempt += 1
        except OSError as error:
            raise _unwritable(path, key, error) from None
