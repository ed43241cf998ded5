"""Validation loss on fixed batches."""

import math
from collections.abc import Callable, Iterable

from torch import Tensor

from normlab.train.backpropagation import Batch
from normlab.train.distributed.world import ALONE, World


def validation_loss(cross_entropy: Callable[[Batch], Tensor], batches: Iterable[Batch], world: World = ALONE) -> float:
    """Mean loss in nats per token over all tokens of the batches, which may differ in size, of all processes.

    A process that has fewer batches than another passes its last one again, uncounted: where weights are spread, a pass
    takes all of them.
    """
    total, num_tokens, num_passes = 0.0, 0, 0
    batch = None
    for batch in batches:
        total += cross_entropy(batch).item() * batch.targets_BT.numel()
        num_tokens += batch.targets_BT.numel()
        num_passes += 1
    if batch is not None:
        for _ in range(world.largest(num_passes) - num_passes):
            cross_entropy(batch)
    total, num_tokens = world.sums([total, num_tokens])
    return total / num_tokens if num_tokens > 0 else math.nan
