"""A language model as a student would write it: RMSNorm, rotary positions, SwiGLU, attention spelt out.

Shapes: ``B`` batch, ``T`` time, ``D`` width, ``H`` heads, ``K`` head width, ``V`` vocabulary.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * gain."""

    def __init__(self, width: int, eps: float = 1e-5):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x_BTD: Tensor) -> Tensor:
        x = x_BTD.float()
        return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.gain).to(x_BTD.dtype)


def explicit_attention(limit: float) -> Attend:
    """softmax(mask(clamp(q k^T / sqrt(K)))) v; a limit of infinity is no clamp."""

    def attend(query_BHTK: Tensor, key_BHTK: Tensor, value_BHTK: Tensor) -> Tensor:
        num_tokens, head_width = query_BHTK.shape[-2:]
        scores_BHTT = query_BHTK @ key_BHTK.transpose(-2, -1) / math.sqrt(head_width)
        if math.isfinite(limit):
            scores_BHTT = scores_BHTT.clamp(-limit, limit)
        future_TT = torch.ones(num_tokens, num_tokens, dtype=torch.bool, device=scores_BHTT.device).triu(1)
        return scores_BHTT.masked_fill(future_TT, -math.inf).softmax(-1).to(value_BHTK.dtype) @ value_BHTK

    return attend


def fused_attention(query_BHTK: Tensor, key_BHTK: Tensor, value_BHTK: Tensor) -> Tensor:
    """The same without a clamp, by torch's kernel."""
    return functional.scaled_dot_product_attention(query_BHTK, key_BHTK, value_BHTK, is_causal=True)


class Rotary(nn.Module):
    """Turns neighbouring pairs of a head's features by angles that grow with the position."""

    cos: Tensor
    sin: Tensor

    def __init__(self, head_width: int, context: int, base: float = 10_000.0):
        super().__init__()
        frequencies = base ** (-torch.arange(0, head_width, 2).float() / head_width)
        angles = torch.outer(torch.arange(context).float(), frequencies)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x_BHTK: Tensor) -> Tensor:
        even, odd = x_BHTK[..., 0::2], x_BHTK[..., 1::2]
        turned = torch.stack([even * self.cos - odd * self.sin, even * self.sin + odd * self.cos], -1)
        return turned.flatten(-2).to(x_BHTK.dtype)


class Attention(nn.Module):
    """Causal self-attention, heads side by side."""

    def __init__(self, width: int, num_heads: int, context: int, attend: Attend):
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.rotary = Rotary(width // num_heads, context)
        self.attend = attend

    def forward(self, x_BTD: Tensor) -> Tensor:
        query, key, value = (
            projection(x_BTD).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        attended_BHTK = self.attend(self.rotary(query), self.rotary(key), value)
        return self.out(attended_BHTK.transpose(1, 2).flatten(-2))


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x))."""

    def __init__(self, width: int, hidden_width: int):
        super().__init__()
        self.gate = nn.Linear(width, hidden_width, bias=False)
        self.up = nn.Linear(width, hidden_width, bias=False)
        self.down = nn.Linear(hidden_width, width, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x_BTD)) * self.up(x_BTD))


class Block(nn.Module):
    """x + attention(norm(x)), then x + ffn(norm(x))."""

    def __init__(self, norm: Callable[[int], nn.Module], width: int, attention: nn.Module, ffn: nn.Module):
        super().__init__()
        self.attention_norm, self.ffn_norm = norm(width), norm(width)
        self.attention, self.ffn = attention, ffn

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = x_BTD + self.attention(self.attention_norm(x_BTD))
        return x_BTD + self.ffn(self.ffn_norm(x_BTD))


class Student(nn.Module):
    """Tokens to logits; ``norm`` from a width: RMSNorm, or nn.Identity for a model without norms."""

    def __init__(
        self,
        vocab_size: int,
        context: int,
        norm: Callable[[int], nn.Module],
        attend: Attend,
        *,
        width: int,
        hidden_width: int,
        num_layers: int,
        num_heads: int,
    ):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.blocks = nn.ModuleList(
            Block(norm, width, Attention(width, num_heads, context, attend), SwiGLU(width, hidden_width))
            for _ in range(num_layers)
        )
        self.norm = norm(width)
        self.head = nn.Linear(width, vocab_size, bias=False)
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens_BT: Tensor) -> Tensor:
        x_BTD = self.embedding(tokens_BT)
        for block in self.blocks:
            x_BTD = block(x_BTD)
        return self.head(self.norm(x_BTD))
