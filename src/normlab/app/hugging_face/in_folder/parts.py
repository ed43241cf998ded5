"""The parts that a configuration may name. In an exported folder this module lists those of its model, and no others."""

from typing import Any

PARTS: dict[str, Any] = {}
