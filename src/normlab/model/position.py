"""Position kinds. Each may add to the embedding, turn queries and keys, or do nothing.

Shapes: ``B`` batch, ``H`` heads, ``T`` time, ``K`` head width, ``D`` width; ``P`` half the head width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from normlab.core.types import Positive

Rotate = Callable[..., Tensor]
"""Queries or keys, and perhaps positions, to turned queries or keys."""


class NoPosition(nn.Module):
    """NoPE: order reaches the model through the causal mask alone.  Kazemnejad et al. 2023.

    Also the base of the other kinds: what they do not touch passes unchanged.
    """

    def __init__(self, width: int, head_width: int, context_length: int):
        super().__init__()

    def forward(self, x_BTD: Tensor) -> Tensor:
        """The embedding with its positions."""
        return x_BTD

    def rotate(self, x_BHTK: Tensor, positions_T: Tensor | None = None) -> Tensor:
        """Queries or keys with their positions; 0, 1, 2, ... unless ``positions_T`` says otherwise."""
        return x_BHTK


PositionFactory = Callable[[int, int, int], NoPosition]
"""From the width, the head width and the context length."""


class LearnedPosition(NoPosition):
    """x_t + weight_t, one learnt row for each position of the context.  Gehring et al. 2017; Radford et al. 2018.

    The weight is left undrawn: ``normlab.model.init`` fills it by name, as an embedding.
    """

    def __init__(self, width: int, head_width: int, context_length: int):
        super().__init__(width, head_width, context_length)
        self.weight = nn.Parameter(torch.empty(context_length, width))

    def forward(self, x_BTD: Tensor) -> Tensor:
        return x_BTD + self.weight[: x_BTD.shape[-2]]

    def extra_repr(self) -> str:
        context_length, width = self.weight.shape
        return f"{context_length} positions -> {width}"


class RotaryPosition(NoPosition):
    """RoPE: channels (2i, 2i+1) of position t are turned by the angle t * theta^(-2i/K).  Su et al. 2021, eq. 15.

    Adjacent channels form a pair (interleaved), as in the paper. The head width must be even.
    """

    cos_TP: Tensor
    sin_TP: Tensor

    def __init__(self, width: int, head_width: int, context_length: int, *, theta: Positive):
        super().__init__(width, head_width, context_length)
        exact: Any = {"dtype": torch.float64, "device": "cpu"}  # the meta device would load half of torch's compiler
        inverse_frequency_P = theta ** (-torch.arange(0, head_width, 2, **exact) / head_width)
        angle_TP = torch.arange(context_length, **exact)[:, None] * inverse_frequency_P
        self.register_buffer("cos_TP", angle_TP.cos().float(), persistent=False)
        self.register_buffer("sin_TP", angle_TP.sin().float(), persistent=False)
        self.theta = theta

    def rotate(self, x_BHTK: Tensor, positions_T: Tensor | None = None) -> Tensor:
        chosen = slice(x_BHTK.shape[-2]) if positions_T is None else positions_T
        cos_TP, sin_TP = self.cos_TP[chosen].to(x_BHTK.dtype), self.sin_TP[chosen].to(x_BHTK.dtype)
        even_BHTP, odd_BHTP = x_BHTK.unflatten(-1, (-1, 2)).unbind(-1)
        turned = (even_BHTP * cos_TP - odd_BHTP * sin_TP, even_BHTP * sin_TP + odd_BHTP * cos_TP)
        return torch.stack(turned, dim=-1).flatten(-2)

    def extra_repr(self) -> str:
        return f"theta={self.theta}"
