"""The configuration that a run folder recorded, which is trusted no more than any other."""

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from normlab.app.targets import check_targets
from normlab.core.errors import CheckpointError, UserError

DAMAGE = (
    YAMLError, OmegaConfBaseException, OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError,
)  # fmt: skip


def recorded_config(path: Path, admitted: Sequence[str]) -> DictConfig:
    """The configuration in a file; raises CheckpointError where it is damaged.

    Raises ConfigError where it names code outside of the ``admitted`` packages.
    """
    try:
        loaded = OmegaConf.load(path)
        if not isinstance(loaded, DictConfig):
            raise TypeError
        check_targets(loaded, admitted)
        return loaded
    except UserError:
        raise
    except DAMAGE:
        raise damaged(path) from None


def damaged(path: Path) -> CheckpointError:
    """What is said of a recorded file that cannot be read."""
    return CheckpointError(f"{path} is damaged, so the run cannot be gone on from or used. Start it again.")
