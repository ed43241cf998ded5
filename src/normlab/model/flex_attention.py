"""Attention with a clamp on CUDA: torch's FlexAttention, which fuses the clamp into the kernel's logits.

Dong et al. 2024 (FlexAttention). Linear memory; blocks that no query sees are skipped.
Shapes: ``B`` batch, ``H`` heads, ``T`` time, ``K`` head width.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from normlab.model.clamp import HardClamp, SoftClamp

SMALLEST_HEAD_WIDTH = 16
"""What its kernels compute."""


def serves(query: Tensor, clamp: nn.Module) -> bool:
    """Whether the choice falls on it: CUDA, at most float32, a clamp that acts on each logit alone, no vmap."""
    return (
        query.device.type == "cuda"
        and query.ndim == 4
        and query.dtype != torch.float64
        and query.shape[-1] >= SMALLEST_HEAD_WIDTH
        and type(clamp) in (HardClamp, SoftClamp)
        and not torch._C._functorch.is_batchedtensor(query)  # type: ignore[reportAttributeAccessIssue]
    )


def flex(query_BHTK: Tensor, key_BHTK: Tensor, value_BHTK: Tensor, *, scale: float, clamp: nn.Module) -> Tensor:
    """softmax(mask(clamp(scale * q k^T))) v, as a part of the model's own graph or compiled by itself."""
    compute = clamped_flex if torch.compiler.is_compiling() else _compiled()
    return compute(query_BHTK, key_BHTK, value_BHTK, scale, clamp)


def clamped_flex(query_BHTK: Tensor, key_BHTK: Tensor, value_BHTK: Tensor, scale: float, clamp: nn.Module) -> Tensor:
    """The same uncompiled, which torch computes with all logits in memory."""
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention  # loads torch's compiler

    num_tokens = query_BHTK.shape[-2]
    causal = create_block_mask(_is_past, None, None, num_tokens, num_tokens, device=query_BHTK.device)
    return flex_attention(
        query_BHTK, key_BHTK, value_BHTK, score_mod=lambda logit, *place: clamp(logit), block_mask=causal, scale=scale
    )  # type: ignore[return-value]


@cache
def _compiled() -> Any:
    return torch.compile(clamped_flex, dynamic=False)


def _is_past(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return query >= key
