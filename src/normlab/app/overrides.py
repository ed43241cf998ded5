"""What people mistype on the command line, and the line that says what to type instead."""

from collections.abc import Sequence
from difflib import get_close_matches

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from normlab.core.errors import ConfigError


def parse_override(text: str) -> Override:
    """Hydra's reading of one argument; raises ConfigError where it has none."""
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        raise ConfigError(
            f"Every argument must read group=option or key=value; got {text}. "
            f"Put a value with special characters in quotes twice: \"key='a (b)'\". For help type --help."
        ) from None


def check_groups(overrides: Sequence[Override]) -> None:
    """Raise ConfigError where a group gets no option, one that does not exist, or a dot for its slash."""
    for override in overrides:
        key = override.key_or_group
        options = group_options(key)
        if override.is_delete():
            raise ConfigError(f"Nothing can be taken out of a configuration; got {override.input_line}. Remove it.")
        if options:
            _check_choices(override, key, options)
        elif options_with_slash := group_options(group := key.replace(".", "/")):
            option = closest(_typed_value(override), options_with_slash)
            raise ConfigError(
                f"{group} is a config group, so its path takes slashes; got {override.input_line}. "
                f"Type {group}={option}."
            )


def check_single_values(overrides: Sequence[Override]) -> None:
    """Raise ConfigError where a key gets several values outside a sweep."""
    for override in overrides:
        if override.is_sweep_override():
            key, value = override.key_or_group, _typed_value(override)
            quoted = "" if group_options(key) else f" For a list type {key}=[{value}], for text '{key}=\"{value}\"'."
            raise ConfigError(
                f"One run takes one value for every key; got {override.input_line}. "
                f"Type --multirun to run one after the other.{quoted}"
            )


def group_options(group: str) -> list[str]:
    """The options of a config group, in order; none where there is no such group."""
    options = GlobalHydra.instance().config_loader().get_group_options(group)
    return sorted(option for option in options if not option.startswith("_"))


def _check_choices(override: Override, group: str, options: list[str]) -> None:
    for option in _chosen_options(override):
        if option not in options and not (group == "experiment" and option == "null"):
            raise ConfigError(
                f"{group} must be one of: {', '.join(options)}; got '{option}'. "
                f"Type {group}={closest(option, options)}."
            )


def _chosen_options(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(choice).strip("'\"") for choice in override.sweep_string_iterator()]
    value = override.value()
    return [str(name) for name in value] if isinstance(value, list) else [_typed_value(override)]


def closest(name: str, legal: list[str]) -> str:
    """What was probably meant; "none" where nothing was asked for and there is such an option."""
    if name in ("null", "None", "") and "none" in legal:
        return "none"
    return next(iter(get_close_matches(name, legal, n=1, cutoff=0.0)), legal[0])


def _typed_value(override: Override) -> str:
    return str(override.input_line).partition("=")[2].strip("'\"")
