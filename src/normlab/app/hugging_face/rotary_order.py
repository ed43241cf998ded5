"""The two orders of a head's channels under rotary positions.

Interleaved (ours, Su et al. 2021): channels (2i, 2i+1) are a pair. Half-split (Hugging Face's Llama): (i, i + K/2).
Queries and keys reordered alike have the same products, so the order of the rows of both weights is all there is to it.

Shapes: ``H`` heads, ``K`` head width, ``P`` half of it, ``D`` width.
"""

from torch import Tensor


def half_split(weight: Tensor, num_heads: int) -> Tensor:
    """Rows ``HK`` from interleaved to half-split order."""
    return weight.unflatten(0, (num_heads, -1, 2)).transpose(1, 2).reshape(weight.shape)


def interleaved(weight: Tensor, num_heads: int) -> Tensor:
    """Rows ``HK`` from half-split to interleaved order."""
    return weight.unflatten(0, (num_heads, 2, -1)).transpose(1, 2).reshape(weight.shape)
