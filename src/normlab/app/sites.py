"""Where options stand: at the place that their group names, at a second one (qk_norm), or in some layers only."""

from functools import cache

from omegaconf import OmegaConf

from normlab.app.options import CONFIG_FOLDER, group_descriptions
from normlab.model.layer import part_names

PER_LAYER = "model.per_layer"


def chooser(site: str) -> str | None:
    """What stands before the = of the argument that chooses what is at a dotted key; None where no option is.

    For model.norm it is model/norm, for model.qk_norm model/norm@model.qk_norm, and for model.per_layer.layer_0.norm
    +model/norm@model.per_layer.layer_0.norm.
    """
    if site.startswith(f"{PER_LAYER}."):
        part = site.removeprefix(f"{PER_LAYER}.").partition(".")[2]
        return f"+{group_of_part(part)}@{site}" if part in part_names() else None
    group = groups_of_sites().get(site)
    return group if group is None or group.replace("/", ".") == site else f"{group}@{site}"


def group_of_part(part: str) -> str:
    """The group that a part of a layer is chosen from."""
    groups = groups_of_sites()
    return groups.get(part) or groups[f"model.{part}"]


@cache
def groups_of_sites() -> dict[str, str]:
    """The group by the dotted key at which one of its options stands in every configuration."""
    return {group.replace("/", "."): group for group in group_descriptions()} | second_sites()


@cache
def second_sites() -> dict[str, str]:
    """The same for what the defaults lists in conf/ place elsewhere, as ``norm@qk_norm: none`` does."""
    sites: dict[str, str] = {}
    for path in sorted(CONFIG_FOLDER.glob("*/**/*.yaml")):
        text = path.read_text(encoding="utf-8")
        if "@" not in text:
            continue
        group = path.parent.relative_to(CONFIG_FOLDER)
        for entry in OmegaConf.to_container(OmegaConf.create(text)).get("defaults", []):  # type: ignore[union-attr]
            for name, at, package in [] if isinstance(entry, str) else [key.partition("@") for key in entry]:
                if at:
                    sites[(group / package).as_posix().replace("/", ".")] = (group / name).as_posix()
    return sites
