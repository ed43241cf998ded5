"""Where a run's numbers come from: versions and the commit of the code."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("normlab", "torch", "numpy", "hydra-core", "omegaconf", "tensorboard")


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that shape a run; "source" for what is not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def git_commit() -> str | None:
    """The commit that the code stands at, with "-dirty" where files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parent
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "source"
