"""Norm kinds. Every class takes the width from its parent; the identity of ``norm=none`` is ``torch.nn.Identity``.

Shapes: ``...D`` any leading dimensions, then the width.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from normlab.core.types import Positive

NormFactory = Callable[[int], nn.Module]


class RMSNorm(nn.Module):
    """gain * x / sqrt(mean(x^2) + eps), statistics in float32 (or wider).  Zhang & Sennrich 2019, section 3.

    The gain, one per channel, starts at 1.
    """

    def __init__(self, width: int, *, eps: Positive):
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        wide = _at_least_float32(x)
        inverse_rms = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (self.gain * wide * inverse_rms).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.gain.numel()}, eps={self.eps}"


class LayerNorm(nn.Module):
    """gain * (x - mean) / sqrt(var + eps) + bias, statistics in float32 (or wider).  Ba et al. 2016, equation 4.

    The gain starts at 1, the bias at 0; without ``has_bias`` there is none.
    """

    def __init__(self, width: int, *, eps: Positive, has_bias: bool):
        super().__init__()
        self.eps = eps
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if has_bias else None

    def forward(self, x: Tensor) -> Tensor:
        wide = _at_least_float32(x)
        centred = wide - wide.mean(-1, keepdim=True)
        normalised = self.gain * centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        return (normalised if self.bias is None else normalised + self.bias).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.gain.numel()}, eps={self.eps}, has_bias={self.bias is not None}"


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
