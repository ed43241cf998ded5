"""The passes over a batch that several devices share, or that is too large to be taken at once.

Shapes: ``B`` batch, ``H`` heads, ``T`` time.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from normlab.model.qk_clip import QKRescale
from normlab.train.backpropagation import Backpropagation, Batch, in_parts
from normlab.train.distributed.world import World

Hold = Callable[[], AbstractContextManager[object]]
"""While inside, gradients are added up in this process alone."""


class Passes(Protocol):
    """What the training loop asks of the passes through a model."""

    def __call__(self, batch: Batch) -> Tensor:
        """The cross-entropy in nats per token; the gradients of the objective are left in the parameters."""
        ...

    def cross_entropy(self, batch: Batch) -> Tensor:
        """The same without the gradients."""
        ...


class SharedPasses:
    """loss = sum over devices and parts of (its share of the tokens) * (mean loss of the part), gradients likewise.

    Right for every objective that is a mean over tokens. This process takes its share of the batch, at most
    ``batch_size`` sequences at a time, and the mean over the ``world`` is left in every process. Buffers that are saved
    belong to the state of a step, not of a pass (vectors of a power iteration): each part starts from the same ones.
    """

    def __init__(self, passes: Backpropagation, *, batch_size: int, world: World, hold: Hold = nullcontext):
        self.hides_model = passes.hides_model
        self.cross_entropy = passes.cross_entropy
        self._passes = passes
        self._batch_size = batch_size
        self._world = world
        self._hold = hold
        self._saved = _saved_buffers(passes.model)
        self._bounds = [module for module in passes.model.modules() if isinstance(module, QKRescale)]

    def __call__(self, batch: Batch) -> Tensor:
        parts = in_parts(batch, self._batch_size)
        loss = self._passes(batch) if len(parts) == 1 else self._of_parts(parts)
        if self._world.size > 1 and self._bounds:
            self._share_largest_logits()
        return self._world.mean(loss)

    def _of_parts(self, parts: list[Batch]) -> Tensor:
        num_tokens = sum(part.targets_BT.numel() for part in parts)
        before = [buffer.clone() for buffer in self._saved]
        losses = []
        for index, part in enumerate(parts):
            for buffer, content in zip(self._saved, before, strict=True):
                buffer.copy_(content)
            share = part.targets_BT.numel() / num_tokens
            with nullcontext() if index == len(parts) - 1 else self._hold():
                losses.append(share * self._passes.of_part(part, share))
        return torch.stack(losses).sum()

    def _share_largest_logits(self) -> None:
        """The largest of all processes, for the weights are rescaled by them; NaN where one's is."""
        largest_LH = torch.stack([module.largest_logit_H for module in self._bounds])
        for module, largest_H in zip(self._bounds, self._world.gathered(largest_LH).amax(0), strict=True):
            module.largest_logit_H.copy_(largest_H)


def _saved_buffers(model: nn.Module) -> list[Tensor]:
    kept = model.state_dict().keys()
    return [buffer for name, buffer in model.named_buffers() if name in kept]


def wrapped(model: nn.Module, parallel: str) -> tuple[nn.Module, Hold]:
    """What a process of several takes its passes through: it leaves mean gradients; and how it is held back from that.

    ``ddp``: a copy of all weights in each process, gradients averaged as they come (Li et al. 2020). ``fsdp``: the
    model whose weights are spread (:func:`normlab.train.distributed.sharding.spread`), which averages by itself.
    """
    if parallel == "fsdp":
        return model, lambda: _held_back(model)
    with warnings.catch_warnings():  # the newer name of the argument is not in every version that is supported
        warnings.simplefilter("ignore", FutureWarning)
        replica = nn.parallel.DistributedDataParallel(model, broadcast_buffers=False)
    return replica, replica.no_sync


@contextmanager
def _held_back(model: Any) -> Iterator[None]:
    model.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        model.set_requires_gradient_sync(True)
