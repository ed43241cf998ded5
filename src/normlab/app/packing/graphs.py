"""Which runs of a sweep share a graph: their models have one structure, and only values differ."""

import json
from typing import Any

from omegaconf import DictConfig

from normlab.app.canonical import plain
from normlab.app.validate import TRAIN

OF_GRAPH = ("model", "attention", "loss", "data", "tokenizer", "device")
OF_TRAINER = ("batch_size", "global_batch", "precision", "compile", "device")
"""All else, as seed, init, optimizer, schedule, clipping and length, is each run's own."""
VALUES = ("limit",)
"""Keys of a model's parts that are values within a graph: the limits of clamps and caps."""


def graph_of(config: DictConfig) -> str | None:
    """A text that is equal for runs that can train in one pack; None for what is no training."""
    if config.task._target_ != TRAIN:
        return None
    groups = {name: _without_values(plain(config[name])) for name in OF_GRAPH if name in config}
    groups["trainer"] = {key: config.trainer[key] for key in OF_TRAINER}
    return json.dumps(groups, sort_keys=True, default=str)


def _without_values(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    return {key: _without_values(value) for key, value in node.items() if key not in VALUES}
