"""Bounds on attention logits, applied before the causal mask, and on queries, keys and values; none is the identity."""

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from normlab.core.types import Positive


class LimitedClamp(nn.Module):
    """Holds a limit twice: as the number that was given, and as a tensor that is no part of a compiled graph.

    The tensor is a buffer, which runs that are computed side by side can stack; it is not saved. It keeps the whole
    precision of the number whatever type the module is converted to, and its value when memory is made anew.
    """

    limit_tensor: Tensor

    def __init__(self, *, limit: Positive):
        super().__init__()
        self.limit = limit
        self.register_buffer("limit_tensor", torch.tensor(limit, dtype=torch.float64), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        device = fn(torch.empty_like(self.limit_tensor, dtype=torch.float32)).device
        precise = torch.float32 if device.type == "mps" else torch.float64
        self._buffers["limit_tensor"] = None
        super()._apply(fn, recurse)
        self.limit_tensor = torch.tensor(self.limit, dtype=precise, device=device)
        return self

    def limit_for(self, x: Tensor) -> Tensor:
        """The limit in the precision in which ``x`` is computed."""
        return self.limit_tensor.to(torch.promote_types(x.dtype, torch.float32))

    def extra_repr(self) -> str:
        return f"limit={self.limit}"


class HardClamp(LimitedClamp):
    """min(max(x, -limit), limit): gradient 1 inside the bounds, 0 outside.

    On queries, keys and values: MPT and OLMo (Groeneveld et al. 2024), as ``clip_qkv``.
    """

    def forward(self, x: Tensor) -> Tensor:
        limit = self.limit_for(x)
        return x.clamp(-limit, limit)


class SoftClamp(LimitedClamp):
    """limit * tanh(x / limit): within the bounds, gradient 1 - tanh(x / limit)^2, so 1 at zero.

    Gemma 2 (Riviere et al. 2024), section 2, "logit soft-capping".
    """

    def forward(self, x: Tensor) -> Tensor:
        limit = self.limit_for(x)
        return (x / limit).tanh() * limit


def limit_of(clamp: nn.Module) -> float | None:
    """The ``limit`` of a clamp, shipped or of a user's own; None for what has none, such as the identity."""
    return getattr(clamp, "limit", None)
