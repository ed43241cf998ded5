"""The loggers of a configuration: none, one, or several at once, each under its own name."""

from collections.abc import Callable
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from normlab.app.packages import need
from normlab.app.targets import target_of
from normlab.telemetry.mlflow_run import MlflowSink
from normlab.telemetry.sinks import Sink
from normlab.telemetry.wandb_run import WandbSink

GROUP = "logger"
MODULES = {target_of(WandbSink): "wandb", target_of(MlflowSink): "mlflow"}
DATABASES = ("mssql", "mysql", "postgresql", "sqlite")
"""Where MLflow keeps runs with the help of a package that its small edition has not."""

MakeSink = Callable[[Path, int], Sink]


def check_loggers(config: DictConfig) -> None:
    """Raise ConfigError where a logger is asked for whose package is not installed."""
    for name, logger in _by_name(config).items():
        if logger._target_ in MODULES:
            need(MODULES[logger._target_], f"{GROUP}={name}")
        place = str(logger.get("tracking_uri"))
        if "://" in place and place.startswith(DATABASES):
            need("sqlalchemy", f"{GROUP}.{name}.tracking_uri={place}")


def sink_makers(config: DictConfig) -> dict[str, MakeSink]:
    """What opens each logger, by name, given the run folder and the first step to come."""
    return {name: instantiate(logger) for name, logger in _by_name(config).items()}


def _by_name(config: DictConfig) -> dict[str, DictConfig]:
    """A group of one's own, and what older runs have recorded, may be a single one without a name."""
    loggers = config.get(GROUP, {})
    return {GROUP: loggers} if "_target_" in loggers else {str(name): logger for name, logger in loggers.items()}
