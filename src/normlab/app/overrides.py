"""What people mistype on the command line, and the line that says what to type instead."""

from collections.abc import Sequence
from difflib import get_close_matches

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from normlab.app.options import group_descriptions
from normlab.app.sites import PER_LAYER, chooser, group_of_part, groups_of_sites, second_sites
from normlab.core.errors import ConfigError
from normlab.model.layer import part_names

FOLDER_KEYS = ("checkpoint", "resume", "run", "sweep")


def with_quoted_folders(arguments: Sequence[str]) -> list[str]:
    """The arguments; a folder whose name has = or , in it, as those of a sweep's runs have, in quotes for Hydra."""
    return [_quoted(text) if text.partition("=")[0] in FOLDER_KEYS else text for text in arguments]


def _quoted(text: str) -> str:
    key, _, path = text.partition("=")
    needs_quotes = "=" in path or "," in path
    return f"{key}='{path}'" if needs_quotes and path[0] not in "'\"[" else text


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
    """Raise ConfigError where a group gets no option, one that does not exist, or stands where it does not belong."""
    for override in overrides:
        key = override.key_or_group
        site = override.package or key.replace("/", ".")
        if override.is_delete():
            raise ConfigError(f"Nothing can be taken out of a configuration; got {override.input_line}. Remove it.")
        if site == PER_LAYER or site.startswith(f"{PER_LAYER}."):
            _check_layer_part(override, site)
        if options := group_options(key):
            _check_choices(override, key, options)
        else:
            _check_not_meant_for_group(override, site)


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
            meant = near(option, options)
            typed = f"{override.get_key_element()}={meant}" if meant else _elsewhere(option)
            hint = f"Type {typed}." if typed else f"Type {override.get_key_element()}=… with one of them."
            raise ConfigError(f"{group} must be one of: {', '.join(options)}; got '{option}'. {hint}")


def _elsewhere(name: str) -> str | None:
    """What to type for the option of another group (loss=muon), or for the name of one (loss=output_cap)."""
    site = next((site for site in groups_of_sites() if site.rpartition(".")[2] == name), None)
    if site is not None:
        return f"{chooser(site)}={_only_choice(groups_of_sites()[site])}"
    owners = [group for group, options in group_descriptions().items() if name in options]
    return " or ".join(f"{group}={name}" for group in owners) if 0 < len(owners) < 3 else None


def _only_choice(group: str) -> str:
    """The option of a group that has but one besides "none"."""
    others = [option for option in group_options(group) if option != "none"]
    return others[0] if len(others) == 1 else "…"


def _check_layer_part(override: Override, site: str) -> None:
    """Raise ConfigError where what is meant for some layers is no part of them, or not chosen from its group."""
    layer, _, part = site.removeprefix(PER_LAYER).removeprefix(".").partition(".")
    is_option = bool(group_options(override.key_or_group))
    if "." in part or (not is_option and isinstance(override.value(), dict)):
        return  # what is inside a part
    if is_option and part in part_names() and group_of_part(part) == override.key_or_group:
        return
    value = _typed_value(override)
    if part not in part_names():
        part = near(part, part_names()) or _part_with(value, override.key_or_group)
    elif is_option and value not in group_options(group_of_part(part)):
        part = _part_with(value, override.key_or_group)
    meant = chooser(f"{PER_LAYER}.{layer or 'layer_0'}.{part}")
    raise ConfigError(
        f"{PER_LAYER} takes parts of layers ({', '.join(part_names())}), each chosen from its config group; "
        f"got {override.input_line}. Type {meant}={_nearest_choices(override, group_of_part(part))}."
    )


def _part_with(option: str, group: str) -> str:
    """The part of a layer that comes from the group, else the one that has such an option, else the norm."""
    same_group = [part for part in part_names() if group_of_part(part) == group]
    having = [part for part in part_names() if option in group_options(group_of_part(part))]
    return next(iter([*same_group, *having, "norm"]))


def _check_not_meant_for_group(override: Override, site: str) -> None:
    """Raise ConfigError where a key is the place of an option, as in model.norm=none or attention/qk_norm=l2."""
    meant = [site] if site in groups_of_sites() else []
    meant += [second for second in second_sites() if second.rpartition(".")[2] == site.rpartition(".")[2]]
    if not meant or site.startswith(f"{PER_LAYER}.") or isinstance(override.value(), dict):
        return
    group = groups_of_sites()[meant[0]]
    typed = f"{chooser(meant[0])}={_nearest_choices(override, group)}"
    raise ConfigError(
        f"{meant[0]} is chosen from the config group {group}, whose path takes slashes; got {override.input_line}. "
        f"Type {typed}."
    )


def _nearest_choices(override: Override, group: str) -> str:
    return ",".join(near(name, group_options(group)) or _only_choice(group) for name in _chosen_options(override))


def _chosen_options(override: Override) -> list[str]:
    if override.is_sweep_override():
        return [str(choice).strip("'\"") for choice in override.sweep_string_iterator()]
    value = override.value()
    return [str(name) for name in value] if isinstance(value, list) else [_typed_value(override)]


def near(name: str, legal: Sequence[str]) -> str | None:
    """What was probably meant: None where nothing is close, "none" where nothing was asked for and it is an option."""
    if name in ("null", "None", "") and "none" in legal:
        return "none"
    return next(iter(get_close_matches(name.lower(), legal, n=1)), None)


def _typed_value(override: Override) -> str:
    return str(override.input_line).partition("=")[2].strip("'\"")
