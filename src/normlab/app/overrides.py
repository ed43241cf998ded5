"""What people mistype on the command line, and the line that says what to type instead."""

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from normlab.core.errors import ConfigError


def parse_override(text: str) -> Override:
    """Hydra's reading of one argument; raises ConfigError where it has none."""
    try:
        return OverridesParser.create().parse_override(text)
    except HydraException:
        raise ConfigError(
            f"Every argument must read group=option or key=value; got {text}. "
            f"Put a value with special characters in quotes twice: \"key='a (b)'\"."
        ) from None


def check_groups(overrides: Sequence[Override]) -> None:
    """Raise ConfigError where a group gets no option, one that does not exist, or a dot for its slash."""
    for override in overrides:
        if override.is_delete():
            continue
        key = override.key_or_group
        options = group_options(key)
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
            raise ConfigError(
                f"One run takes one value for every key; got {override.input_line}. "
                f"Type --multirun to run one after the other, or brackets for a list: "
                f"{override.key_or_group}=[{_typed_value(override)}]."
            )


def group_options(group: str) -> list[str]:
    """The options of a config group, in order; none where there is no such group."""
    options = GlobalHydra.instance().config_loader().get_group_options(group)
    return sorted(option for option in options if not option.startswith("_"))


def explain(error: Exception, compose_defaults: Callable[[], DictConfig]) -> ConfigError:
    """One line of our own for the faults that Hydra and OmegaConf find while composing."""
    text = " ".join(line.strip() for line in str(error).splitlines())
    unknown = re.search(r"Could not override '([\w./@]+)'", text) or re.search(r"Key '(\w+)' is not in struct", text)
    if unknown:
        return _unknown_key(unknown[1], compose_defaults())
    wanted = re.search(r"In '([^']*)': Could not find '([^']*)'", text)
    if wanted:
        return ConfigError(
            f"The configuration names '{wanted[2]}', which does not exist. Look into conf/ for what does."
        )
    return ConfigError(text)


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


def _unknown_key(key: str, defaults: DictConfig) -> ConfigError:
    parent_key, _, name = key.rpartition(".")
    parent = OmegaConf.select(defaults, parent_key) if parent_key else defaults
    if not isinstance(parent, DictConfig):
        return _unknown_key(parent_key, defaults) if parent_key else ConfigError(f"There is no key '{key}'.")
    legal = [str(child) for child in parent if not str(child).startswith("_")]
    where = f"of {parent_key}" if parent_key else "at the top"
    prefix = f"{parent_key}." if parent_key else ""
    if not legal:
        return ConfigError(f"There is no key '{key}'; {parent_key} takes none as it is chosen. Remove it.")
    return ConfigError(
        f"There is no key '{key}'; the keys {where} are: {', '.join(legal)}. Type {prefix}{closest(name, legal)}=…"
    )


def closest(name: str, legal: list[str]) -> str:
    """What was probably meant; "none" where nothing was asked for and there is such an option."""
    if name in ("null", "None", "") and "none" in legal:
        return "none"
    return next(iter(get_close_matches(name, legal, n=1, cutoff=0.0)), legal[0])


def _typed_value(override: Override) -> str:
    return str(override.input_line).partition("=")[2].strip("'\"")
