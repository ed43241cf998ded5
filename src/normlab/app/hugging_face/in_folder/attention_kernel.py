"""Stands where normlab compiles a kernel of its own: here torch's serve."""

from typing import Any


def is_available() -> bool:
    """Never."""
    return False


def serves(*inputs: Any) -> bool:
    """Nothing."""
    return False


def kernel_attention(*inputs: Any, **settings: Any) -> Any:
    """Not here."""
    raise NotImplementedError
