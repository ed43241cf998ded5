"""Command lines with which a run could be tried again: its own overrides, with one choice made differently."""

import shlex
from collections.abc import Sequence

PROGRAM = "python src/run.py"
OF_ONE_RUN_ONLY = ("hydra", "resume")
"""Where a run wrote and what it went on from: another run has its own."""


def command_of(overrides: Sequence[str]) -> str:
    """What to type, quoted where a shell would read it otherwise."""
    return " ".join([PROGRAM, *map(shlex.quote, overrides)])


def repeatable(overrides: Sequence[str]) -> tuple[str, ...]:
    """The overrides that belong to another try as well."""
    return tuple(text for text in overrides if _site_of(text).partition(".")[0] not in OF_ONE_RUN_ONLY)


def with_choice(overrides: Sequence[str], choice: str) -> tuple[str, ...]:
    """The overrides, with ``choice`` in the place of what was chosen there, else at the end.

    The values of an option that gives way to another go with it: the new one may not know them, or be undone by them.
    """
    site = _site_of(choice)
    values = f"{site}." if _names_group(choice) else None
    kept: list[str] = []
    for text in overrides:
        other = _site_of(text)
        if other == site:
            if choice not in kept:
                kept.append(choice)
        elif values is None or not _is_value_of(text, values):
            kept.append(text)
    return (*kept,) if choice in kept else (*kept, choice)


def _site_of(override: str) -> str:
    """The dotted place of a choice: model.qk_norm of ``model/norm@model.qk_norm=rmsnorm``."""
    group, _, package = override.partition("=")[0].lstrip("+~").partition("@")
    return package or group.replace("/", ".")


def _names_group(override: str) -> bool:
    """Whether it chooses an option (model/norm, loss), and does not set a value (optimizer.lr)."""
    return "." not in override.partition("=")[0].partition("@")[0]


def _is_value_of(override: str, prefix: str) -> bool:
    """Whether it sets a value of that option itself, and none of an option within it (init.scale.factor of init)."""
    site = _site_of(override)
    return not _names_group(override) and site.startswith(prefix) and "." not in site.removeprefix(prefix)
