"""Causal multi-head self-attention.

Shapes: ``B`` batch, ``T`` time, ``D`` width, ``H`` heads, ``K`` head width; logits are ``BHTT`` (query, key).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from normlab.model.linear import Linear
from normlab.model.position import NoPosition

AttentionFactory = Callable[[int, int, NoPosition], nn.Module]


class FusedAttention(nn.Module):
    """softmax(mask(q k^T / sqrt(K))) v by torch's fused kernel, which never shows the logits."""

    def forward(self, query_BHTK: Tensor, key_BHTK: Tensor, value_BHTK: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(query_BHTK, key_BHTK, value_BHTK, is_causal=True)


class ExplicitAttention(nn.Module):
    """softmax(mask(clamp(q k^T / sqrt(K)))) v, step by step, so that something can stand on the logits.

    The clamp comes before the mask: clamping the mask's -inf to a finite bound would let the future leak in.
    The mask ``visible`` is True where a query (row) may see a key (column): its past and itself, unless given.
    """

    def __init__(self, clamp: nn.Module):
        super().__init__()
        self.clamp = clamp

    def forward(
        self, query_BHTK: Tensor, key_BHTK: Tensor, value_BHTK: Tensor, visible: Tensor | None = None
    ) -> Tensor:
        logits_BHTT = self.clamp(query_BHTK @ key_BHTK.mT / math.sqrt(query_BHTK.shape[-1]))
        if visible is None:
            visible = torch.ones(logits_BHTT.shape[-2:], dtype=torch.bool, device=logits_BHTT.device).tril()
        return logits_BHTT.masked_fill(~visible, -math.inf).softmax(-1) @ value_BHTK


class CausalSelfAttention(nn.Module):
    """out(attend(rotate(query(x)), rotate(key(x)), value(x))), heads side by side.  Vaswani et al. 2017, section 3.2.

    ``clamp`` bounds the logits. Where it is the identity, the fused kernel computes the same function.
    """

    def __init__(self, width: int, num_heads: int, position: NoPosition, *, clamp: nn.Module):
        super().__init__()
        self.num_heads = num_heads
        self.position = position
        self.query = Linear(width, width)
        self.key = Linear(width, width)
        self.value = Linear(width, width)
        self.out = Linear(width, width)
        self.attend = FusedAttention() if isinstance(clamp, nn.Identity) else ExplicitAttention(clamp)

    def forward(self, x_BTD: Tensor, positions_T: Tensor | None = None) -> Tensor:
        query_BHTK = self.position.rotate(self._split_heads(self.query(x_BTD)), positions_T)
        key_BHTK = self.position.rotate(self._split_heads(self.key(x_BTD)), positions_T)
        value_BHTK = self._split_heads(self.value(x_BTD))
        attended_BHTK = self.attend(query_BHTK, key_BHTK, value_BHTK)
        return self.out(attended_BHTK.transpose(-3, -2).flatten(-2))

    def _split_heads(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
