"""Launchers that come with a package of their own: what to install where one is asked for and not there."""

from collections.abc import Sequence

from hydra.core.override_parser.types import Override

from normlab.app.packages import need

GROUP = "hydra/launcher"
PLUGINS = {
    "joblib": "hydra_plugins.hydra_joblib_launcher",
    "slurm": "hydra_plugins.hydra_submitit_launcher",
    "submitit_local": "hydra_plugins.hydra_submitit_launcher",
    "submitit_slurm": "hydra_plugins.hydra_submitit_launcher",
}


def check_launcher(overrides: Sequence[Override]) -> None:
    """Raise ConfigError where a launcher is asked for whose package is not installed."""
    for override in overrides:
        name = str(override.input_line).partition("=")[2]
        if override.key_or_group == GROUP and name in PLUGINS:
            need(PLUGINS[name], f"{GROUP}={name}")
