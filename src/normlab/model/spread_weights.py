"""Weights that are spread over devices: FSDP2's tensors, of which each process holds some rows.

They are told by what they can do: torch's module of them is slow to import, and most runs have none.
"""

from typing import Any

from torch import Tensor


def is_spread(tensor: Tensor) -> bool:
    """Whether this process holds only some rows."""
    return hasattr(tensor, "full_tensor")


def local(tensor: Any) -> Tensor:
    """What this process holds of it: a view."""
    return tensor.to_local() if is_spread(tensor) else tensor


def whole(tensor: Any) -> Tensor:
    """All of it; every process has to ask."""
    return tensor.full_tensor() if is_spread(tensor) else tensor
