"""Optional packages: what to type where one is asked for and is not there, said before anything is begun."""

from importlib.util import find_spec
from typing import NamedTuple

from normlab.core.errors import ConfigError


class Package(NamedTuple):
    """What pip calls a package, and the extra of pyproject.toml that has it, if one has."""

    distribution: str
    extra: str | None


PACKAGES = {
    "wandb": Package("wandb", "wandb"),
    "mlflow": Package("mlflow-skinny", "mlflow"),
    "sqlalchemy": Package("mlflow", None),
    "pandas": Package("pandas", "notebook"),
    "hydra_plugins.hydra_joblib_launcher": Package("hydra-joblib-launcher", "joblib"),
    "hydra_plugins.hydra_submitit_launcher": Package("hydra-submitit-launcher", "submitit"),
}
"""By the name that is imported."""


def need(module: str, asker: str) -> None:
    """Raise ConfigError where a module of an optional package is not installed, which ``asker`` cannot do without."""
    if not is_installed(module):
        distribution, extra = PACKAGES[module]
        by_uv = "" if extra is None else f"uv sync --extra {extra}, or "
        raise ConfigError(
            f"{asker} needs {distribution}, which is not installed. Type {by_uv}pip install {distribution}."
        )


def is_installed(module: str) -> bool:
    """Whether the module can be imported; a mere folder of its name is none."""
    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        return False
    return spec is not None and spec.origin is not None
