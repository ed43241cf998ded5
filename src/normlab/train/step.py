"""One optimizer step."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn, optim

from normlab.model.spread_weights import whole
from normlab.optim.clipping import clip_gradients
from normlab.train.backpropagation import Batch
from normlab.train.distributed.world import ALONE, World
from normlab.train.finite import are_finite

Backpropagate = Callable[[Batch], Tensor]
"""Returns the cross-entropy of a batch in nats per token, and leaves the gradients in the parameters."""


class StepResult(NamedTuple):
    """Cross-entropy in nats per token and gradient norm before clipping, both before the update.

    Where ``has_damaged_weights``, both were finite, but the update has left weights that are not.
    """

    loss: float
    grad_norm: float
    has_damaged_weights: bool

    @property
    def is_finite(self) -> bool:
        """False where the step met a NaN or an infinity, and so is none that training can go on from."""
        return math.isfinite(self.loss) and math.isfinite(self.grad_norm) and not self.has_damaged_weights


def training_step(
    model: nn.Module,
    optimizer: optim.Optimizer,
    backpropagate: Backpropagate,
    batch: Batch,
    *,
    lr: float,
    grad_clip: float | None,
    world: World = ALONE,
) -> StepResult:
    """Forward, backward, clip, update. A non-finite loss or gradient never reaches the weights.

    An update can only be made in place; whether it was finite is told by the weights right after it. The result is the
    same in all processes of the ``world``: loss and gradients are means over them, damage is anybody's.
    """
    cross_entropy = backpropagate(batch)
    grad_norm = whole(clip_gradients(model.parameters(), grad_clip))
    result = StepResult(*torch.stack([cross_entropy, grad_norm]).tolist(), has_damaged_weights=False)
    if result.is_finite:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
        result = result._replace(has_damaged_weights=world.any(not are_finite(model.parameters())))
    optimizer.zero_grad(set_to_none=True)
    return result
