"""The parts that a configuration may name; in an exported folder those of its model, and no others."""

from typing import Any

PARTS: dict[str, Any] = {}
