"""Which folder a run or a sweep writes to, when the command line does not say."""

from pathlib import Path
from tempfile import TemporaryFile

from omegaconf import DictConfig, OmegaConf

from normlab.core.errors import ConfigError


def claimed_folder(config: DictConfig, is_multirun: bool) -> list[str]:
    """Make the folders of a run or sweep; return the override that gives Hydra the default one, made anew.

    Hydra names folders by the second, so two processes that start together would share one. Here the second comer
    takes the name with _2, _3, … behind it. Raises ConfigError where a folder, the cache among them, cannot be written.
    """
    key = "hydra.sweep.dir" if is_multirun else "hydra.run.dir"
    wanted = Path(OmegaConf.select(config, key))
    _make_writable(Path(config.cache), "cache")
    if wanted.resolve() == Path.cwd():
        return []
    if any(override.startswith(f"{key}=") for override in config.hydra.overrides.hydra):
        _make_writable(wanted, key)
        return []
    return [f"{key}={_make_new(wanted, key)}"]


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
