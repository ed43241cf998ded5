"""Which folder a run or a sweep writes to, when the command line does not say."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf


def claimed_folder(config: DictConfig, is_multirun: bool) -> list[str]:
    """Make the default folder and return the override that gives it to Hydra; nothing where one was chosen.

    Hydra names folders by the second, so two processes that start together would share one. Here the second comer
    takes the name with _2, _3, … behind it.
    """
    key = "hydra.sweep.dir" if is_multirun else "hydra.run.dir"
    wanted = Path(OmegaConf.select(config, key))
    was_chosen = any(override.startswith(f"{key}=") for override in config.hydra.overrides.hydra)
    if was_chosen or wanted.resolve() == Path.cwd():
        return []
    return [f"{key}={_make_new(wanted)}"]


def _make_new(wanted: Path) -> Path:
    attempt = 1
    while True:
        path = wanted if attempt == 1 else wanted.with_name(f"{wanted.name}_{attempt}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            attempt += 1
