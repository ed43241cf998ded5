"""Which parts of a configuration decide the numbers: the canonical form that is fingerprinted."""

from collections.abc import Mapping
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from normlab.app.starting import canonical_start
from normlab.app.targets import IDENTITY, target_of
from normlab.core.fingerprint import fingerprint
from normlab.data.source import Source
from normlab.model.placement import Placement
from normlab.train.instability import Stop

NUMERIC_GROUPS = (
    "seed", "model", "attention", "init", "loss", "optimizer", "schedule", "tokenizer", "trainer", "on_instability",
)  # fmt: skip
NOT_NUMERIC = {"trainer": ("device", "compile", "cuda_graphs", "checkpoint_every", "parallel", "global_batch")}


def fingerprint_of(config: DictConfig) -> str:
    """SHA-256 of the canonical form."""
    return fingerprint(canonical(config))


def canonical(config: DictConfig) -> dict[str, Any]:
    """All that can change a number, and nothing about paths, logging or hardware; one form for equal models.

    Files are named by their content. Raises DataError where a data file cannot be used.
    """
    groups: dict[str, Any] = {name: plain(config[name]) for name in NUMERIC_GROUPS}
    for group, keys in NOT_NUMERIC.items():
        groups[group] = {key: value for key, value in groups[group].items() if key not in keys}
    groups["trainer"]["batch_size"] = sequences_per_step(config.trainer)
    if groups["on_instability"]["_target_"] != target_of(Stop):  # training may go back to a checkpoint
        groups["trainer"]["checkpoint_every"] = config.trainer.checkpoint_every
    source: Source = hydra.utils.instantiate(config.data)
    groups["data"] = {"train": source.identity("train"), "valid": source.identity("valid")}
    groups |= canonical_start(config)
    _without_norm_no_placement(groups)
    _unit_scale_has_no_roles(groups)
    return groups


def sequences_per_step(trainer: DictConfig) -> int:
    """Of one optimizer step, over all devices; older runs knew of no ``global_batch``."""
    chosen = trainer.get("global_batch")
    return trainer.batch_size if chosen is None else chosen


def plain(node: Any) -> Any:
    """A part of a configuration as dicts, lists and values, its interpolations resolved."""
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The dotted keys in which two canonical forms differ, with both values (None where one has no such key)."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in sorted(one.keys() | other.keys()):
        left, right = one.get(key), other.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found |= differences(left, right, f"{prefix}{key}.")
        elif left != right:
            found[f"{prefix}{key}"] = (left, right)
    return found


def _without_norm_no_placement(groups: dict[str, Any]) -> None:
    """Slots filled with the identity are empty slots, wherever they are."""
    model = groups["model"]
    has_no_norm = model["norm"]["_target_"] == IDENTITY and not model["per_layer"]
    if has_no_norm and model["placement"]["_target_"] == target_of(Placement):
        model["placement"] = {**model["placement"], "slots": [], "sites": []}


def _unit_scale_has_no_roles(groups: dict[str, Any]) -> None:
    """A factor of 1 on some roles, or any factor on none, scales nothing."""
    scale = groups["init"]["scale"]
    if scale.get("factor") == 1 or scale.get("roles") == []:
        groups["init"]["scale"] = {**scale, "factor": 1.0, "roles": []}
