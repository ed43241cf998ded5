"""The passes through a model that training and validation take, plain or compiled.

Shapes: ``B`` batch, ``T`` time.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from normlab.model.loss import Loss, Objective


class Batch(NamedTuple):
    """Tokens, and for each the token that follows it."""

    inputs_BT: Tensor
    targets_BT: Tensor


def in_parts(batch: Batch, most: int) -> list[Batch]:
    """The batch in order, in parts of nearly one size, each of at most ``most`` sequences."""
    num_parts = -(-len(batch.inputs_BT) // most)
    parts = zip(*(tensor.tensor_split(num_parts) for tensor in batch), strict=True)
    return [Batch(*part) for part in parts]


MOST_GRAPHS = 64
"""How many models of different structure a process compiles before it runs others uncompiled."""


class Backpropagation:
    """Forward and backward passes of a model, whose loss and ``precision`` are given.

    With ``compile``, forward pass and loss are one graph of torch.compile; runs of one process whose models have the
    same structure share it, whatever their weights. With ``cuda_graphs`` too, CUDA gets each pass in one launch; on
    other devices that changes nothing. ``hides_model``: hooks on the model's parts see nothing of it.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        precision: AbstractContextManager[object],
        compile: bool,
        cuda_graphs: bool = False,
    ):
        self.model = model
        self.loss = loss
        self.precision = precision
        self.hides_model = compile
        self._objective_of = compiled_objective(cuda_graphs) if compile else objective_of

    def __call__(self, batch: Batch) -> Tensor:
        """The cross-entropy in nats per token; the gradients of the objective are left in the parameters."""
        return self.of_part(batch, 1.0)

    def of_part(self, part: Batch, share: float) -> Tensor:
        """The same of a part of a batch; its gradients count by its share of the tokens, and are added up."""
        if self.hides_model:
            torch.compiler.cudagraph_mark_step_begin()  # what the last step returned may be written over
        with self.precision:
            objective = self._objective_of(self.model, self.loss, part)
        objective.value.backward(None if share == 1.0 else torch.full_like(objective.value, share))
        return objective.cross_entropy.detach().clone()

    @torch.no_grad()
    def cross_entropy(self, batch: Batch) -> Tensor:
        """The same without the gradients."""
        with self.precision:
            return self._objective_of(self.model, self.loss, batch).cross_entropy


def objective_of(model: nn.Module, loss: Loss, batch: Batch) -> Objective:
    """What is minimised on a batch: the plain form, and the one that is compiled."""
    return loss(model(batch.inputs_BT), batch.targets_BT)


@cache
def compiled_objective(cuda_graphs: bool) -> Callable[[nn.Module, Loss, Batch], Objective]:
    """``objective_of`` through torch.compile, one for all runs of the process: it compiles once for each structure."""
    torch._dynamo.config.recompile_limit = MOST_GRAPHS
    return torch.compile(objective_of, dynamic=False, mode="reduce-overhead" if cuda_graphs else None)
