"""Validation loss on fixed batches."""

import math
from collections.abc import Callable, Iterable

from torch import Tensor

from normlab.train.backpropagation import Batch


def validation_loss(cross_entropy: Callable[[Batch], Tensor], batches: Iterable[Batch]) -> float:
    """Mean loss in nats per token over all tokens of the batches, which may differ in size."""
    total, num_tokens = 0.0, 0
    for batch in batches:
        total += cross_entropy(batch).item() * batch.targets_BT.numel()
        num_tokens += batch.targets_BT.numel()
    return total / num_tokens if num_tokens > 0 else math.nan
