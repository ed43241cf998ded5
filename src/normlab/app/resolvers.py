"""Values that YAML files compute: ``${run_name:}``, ``${hidden_width:…}``, ``${fastest_precision:…}``, …"""

import re
from fractions import Fraction

from omegaconf import DictConfig, OmegaConf

from normlab.app.canonical import fingerprint_of
from normlab.app.options import help_text
from normlab.train.fastest import can_compile, fastest_precision

NAME_CHARACTERS = 80
FINGERPRINT_CHARACTERS = 8
UNNAMED_KEYS = "hydra.job.config.override_dirname.exclude_keys"


def register_resolvers() -> None:
    """Make the resolvers known to OmegaConf, which calls them as often as it likes: they have no effects."""
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("option_help", help_text, replace=True)
    OmegaConf.register_new_resolver("hidden_width", hidden_width, replace=True)
    OmegaConf.register_new_resolver("fastest_precision", fastest_precision, replace=True)
    OmegaConf.register_new_resolver("can_compile", can_compile, replace=True)


def run_name(*, _root_: DictConfig) -> str:
    """A sweep's folder for one run: its overrides by the last part of their keys, cut, and 8 hex of the fingerprint.

    What all runs of the sweep have in common is left out (``UNNAMED_KEYS``).
    """
    shown = []
    unnamed = OmegaConf.select(_root_, UNNAMED_KEYS)
    for override in _root_.hydra.overrides.task:
        key, _, value = override.lstrip("+~").partition("=")
        if key in unnamed:
            continue
        bare = re.sub(r"[\[\]'\"]|[^,\[\]'\"]*/", "", value)  # no brackets, quotes or folders
        shown.append(f"{re.split(r'[./@]', key)[-1]}={bare}")
    readable = re.sub(r"[^\w.,=+-]+", "-", ",".join(shown))[:NAME_CHARACTERS].strip("-,")
    return "-".join(part for part in (readable, fingerprint_of(_root_)[:FINGERPRINT_CHARACTERS]) if part)


def hidden_width(width: int, ratio: str | int, multiple: int) -> int:
    """The multiple of ``multiple`` nearest to ratio * width, and at least one of it; the ratio may be "8/3"."""
    return max(1, round(Fraction(ratio) * width / multiple)) * multiple
