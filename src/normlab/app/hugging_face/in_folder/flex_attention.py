"""Stands where normlab compiles attention with a clamp for CUDA: here it is computed in chunks."""

from typing import Any


def serves(*inputs: Any) -> bool:
    """Nothing."""
    return False


def flex(*inputs: Any, **settings: Any) -> Any:
    """Not here."""
    raise NotImplementedError
