"""Whether this is a run of its own or one of a sweep."""

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode


def is_in_sweep() -> bool:
    """Whether the job that Hydra runs in this process is one of a sweep."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
