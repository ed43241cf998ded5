"""Launchers that come with a package of their own: what to install where one is asked for and not there."""

from collections.abc import Sequence

from hydra.core.override_parser.types import Override

from normlab.app.overrides import group_options
from normlab.core.errors import ConfigError

GROUP = "hydra/launcher"
EXTRAS = {"joblib": "joblib", "submitit_local": "submitit", "submitit_slurm": "submitit"}


def check_launcher(overrides: Sequence[Override]) -> None:
    """Raise ConfigError where a launcher is asked for whose package is not installed."""
    for override in overrides:
        name = str(override.input_line).partition("=")[2]
        if override.key_or_group != GROUP or name not in EXTRAS or name in group_options(GROUP):
            continue
        raise ConfigError(
            f"{GROUP}={name} must be installed before it is used; there are: {', '.join(group_options(GROUP))}. "
            f"Type uv sync --extra {EXTRAS[name]}, or pip install hydra-{EXTRAS[name]}-launcher."
        )
