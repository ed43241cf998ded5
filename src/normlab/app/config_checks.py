"""What every configuration must meet, whoever composed it."""

from collections.abc import Callable, Sequence

from omegaconf import DictConfig

from normlab.app.loggers import check_loggers
from normlab.app.schema import check_schema
from normlab.app.targets import check_targets
from normlab.app.validate import validate


def check_config(config: DictConfig, admitted: Sequence[str], compose_defaults: Callable[[], DictConfig]) -> None:
    """Raise ConfigError at the first thing that is not legal, or needs a package that is not installed.

    ``admitted`` are the packages that ``_target_`` may name besides the project's own; ``compose_defaults`` is asked
    for a legal value where one has to be suggested.
    """
    check_targets(config, admitted)
    check_schema(config, compose_defaults)
    check_loggers(config)
    validate(config)
