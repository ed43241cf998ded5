"""A copy of a run as it was a while ago, kept in memory so that its last steps can be taken again."""

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor, nn, optim

from normlab.core.records import StepRecord
from normlab.train.distributed.sharding import brought_together
from normlab.train.distributed.world import World
from normlab.train.state import RunState
from normlab.train.tensors import fill_model, fill_optimizer, optimizer_tensors_of, weights_of

IN_MEMORY = "the copy in memory"


class BlackBox:
    """One copy of weights, optimizer state and run state, where the model lies, renewed every ``every`` steps.

    It is made half an interval after the usual checkpoints, so that one of both is always some steps old, and anew
    whenever training went back: what came before does not lead to what comes after.
    """

    def __init__(self, model: nn.Module, optimizer: optim.Optimizer, state: RunState, *, every: int):
        self._model = model
        self._optimizer = optimizer
        self._live_state = state
        self._every = every
        self._tensors: dict[str, Tensor] = {}
        self._optimizer_state: dict[str, Tensor] = {}
        self._keep()

    def observed(self, records: Iterator[StepRecord]) -> Iterator[StepRecord]:
        """The records, with a copy made after those that are due, but not after the end."""
        for record in records:
            yield record
            is_due = record.step % self._every == self._every // 2 or self._live_state.has_just_gone_back
            if is_due and self._live_state.outcome is None:
                self._keep()

    def restore(self, model: nn.Module, optimizer: optim.Optimizer) -> RunState:
        """Fill a model and its optimizer with the copy; return the state of then."""
        _fill_both(model, optimizer, self._tensors, self._optimizer_state)
        return deepcopy(self.state)

    def bring_together(self, world: World) -> None:
        """Have the copy whole at rank 0, and nothing elsewhere; every process has to call."""
        self._tensors = brought_together(self._tensors, world)
        self._optimizer_state = brought_together(self._optimizer_state, world)

    @torch.no_grad()
    def _keep(self) -> None:
        self.state = deepcopy(self._live_state)
        _copy_into(self._tensors, weights_of(self._model))
        _copy_into(self._optimizer_state, optimizer_tensors_of(self._model, self._optimizer))


def copy_run(model: nn.Module, optimizer: optim.Optimizer, to: tuple[nn.Module, optim.Optimizer]) -> None:
    """Fill a second model and its optimizer with what the first ones hold now."""
    _fill_both(*to, weights_of(model), optimizer_tensors_of(model, optimizer))


def _fill_both(
    model: nn.Module, optimizer: optim.Optimizer, weights: dict[str, Tensor], optimizer_state: dict[str, Tensor]
) -> None:
    fill_model(model, weights, IN_MEMORY)
    fill_optimizer(model, optimizer, optimizer_state, IN_MEMORY)


def _copy_into(copies: dict[str, Tensor], tensors: dict[str, Tensor]) -> None:
    """Into the memory of the copies where they have some."""
    for name, tensor in tensors.items():
        if name in copies:
            copies[name].copy_(tensor)
        else:
            copies[name] = tensor.detach().clone()
