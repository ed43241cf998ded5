"""The training objective.

Shapes: ``B`` batch, ``T`` time, ``V`` vocabulary.
"""

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logits_BTV: Tensor, targets_BT: Tensor) -> Tensor:
    """Mean over all tokens of -log softmax(logits)[target], in nats, computed in float32 (or wider)."""
    wide = logits_BTV.to(torch.promote_types(logits_BTV.dtype, torch.float32))
    return functional.cross_entropy(wide.flatten(0, -2), targets_BT.flatten())
