"""Validation loss on fixed batches."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager

import torch
from torch import nn

from normlab.model.loss import cross_entropy
from normlab.train.step import Batch


@torch.no_grad()
def validation_loss(model: nn.Module, batches: Iterable[Batch], precision: AbstractContextManager[object]) -> float:
    """Mean loss in nats per token over all tokens of the batches, which may differ in size."""
    total, num_tokens = 0.0, 0
    for batch in batches:
        with precision:
            loss = cross_entropy(model(batch.inputs_BT), batch.targets_BT)
        total += loss.item() * batch.targets_BT.numel()
        num_tokens += batch.targets_BT.numel()
    return total / num_tokens if num_tokens > 0 else math.nan
