"""Attention a block of queries at a time, for any formula: memory that grows linearly with the context.

Shapes: ``T`` time, ``K`` head width; logits are ``TT`` (query, key).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

QUERIES_AT_ONCE = 128
Attend = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""From queries, keys, values, and which keys (columns) are visible to which queries (rows)."""


def in_chunks(attend: Attend, query_TK: Tensor, key_TK: Tensor, value_TK: Tensor) -> Tensor:
    """attend(q, k, v), where each block of queries meets the keys up to its own last one and no others.

    The backward pass computes each block anew, so that the logits of one block at a time are in memory; except under
    torch.func.vmap, where they are kept, for torch's checkpoints do not go through it. Nothing in ``attend`` may look
    across queries, or at keys that are not visible.  Rabe and Staats 2021.
    """
    is_under_vmap = torch._C._functorch.is_batchedtensor(query_TK)  # type: ignore[reportAttributeAccessIssue]
    num_tokens = query_TK.shape[-2]
    blocks = []
    for start in range(0, num_tokens, QUERIES_AT_ONCE):
        end = min(start + QUERIES_AT_ONCE, num_tokens)
        block = attend, query_TK[..., start:end, :], key_TK[..., :end, :], value_TK[..., :end, :]
        blocks.append(_attended(*block) if is_under_vmap else checkpoint(_attended, *block, use_reentrant=False))
    return torch.cat(blocks, -2)


def _attended(attend: Attend, query_TK: Tensor, key_TK: Tensor, value_TK: Tensor) -> Tensor:
    """Of some queries, the last of which is at the last of the keys."""
    num_queries, num_keys = query_TK.shape[-2], key_TK.shape[-2]
    visible = torch.ones(num_queries, num_keys, dtype=torch.bool, device=query_TK.device).tril(num_keys - num_queries)
    return attend(query_TK, key_TK, value_TK, visible)
