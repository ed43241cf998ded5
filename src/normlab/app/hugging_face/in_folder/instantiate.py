"""From a configuration to what it names: a small reader, which calls nothing but what ``PARTS`` lists."""

from functools import partial
from typing import Any

from normlab.app.hugging_face.in_folder.parts import PARTS


def instantiate(node: Any) -> Any:
    """What ``_target_`` names with the other keys as arguments, or with ``_partial_`` the function that waits for more.

    Raises ValueError for a name that is not listed.
    """
    if isinstance(node, list):
        return [instantiate(item) for item in node]
    if not isinstance(node, dict):
        return node
    values = {key: instantiate(value) for key, value in node.items() if key not in ("_target_", "_partial_")}
    if "_target_" not in node:
        return values
    if node["_target_"] not in PARTS:
        raise ValueError(f"config.json must name parts that are in parts.py; got {node['_target_']}.")
    part = PARTS[node["_target_"]]
    return partial(part, **values) if node.get("_partial_") else part(**values)
