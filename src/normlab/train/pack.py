"""Models of one structure that are computed side by side, as one program.

Shapes: ``R`` runs, ``B`` batch, ``T`` time.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from normlab.core.errors import ConfigError
from normlab.model.loss import Loss
from normlab.train.backpropagation import MOST_GRAPHS, Batch
from normlab.train.pack_template import SHARED, template_of

Stacked = dict[str, Tensor]
"""Tensors of all models by name, each ``R`` times its own shape."""


class Pack:
    """R models whose parameters and buffers are, from now on, views into stacked tensors: row r is model r's.

    ``models[r](x)`` is what it was, and optimizers, checkpoints and hooks find their tensors in place; but one call
    takes a batch for each and leaves in each the gradients of its own objective:
    grad_r = d loss(model_r(x_r), y_r) / d theta_r. No row enters another's arithmetic, so that a NaN stays where it is.
    Raises ConfigError for models of different structure.
    """

    def __init__(
        self,
        models: Sequence[nn.Module],
        loss: Loss,
        *,
        precision: AbstractContextManager[object],
        compile: bool,
        template: nn.Module | None = None,
    ):
        check_alike(models)
        self.models = list(models)
        self.loss = loss
        self.precision = precision
        self.compile = compile
        self._template = template_of(models[0]) if template is None else template
        self._parameters = {name: _stack(models, name, nn.Module.get_parameter) for name in _names(models[0])}
        self._buffers = {name: _stack_buffer(models, name) for name in dict(models[0].named_buffers())}
        self._objectives_of = compiled_objectives() if compile else objectives_of

    def __call__(self, batches: Sequence[Batch]) -> Tensor:
        """The cross-entropy of each model on its batch, ``R`` numbers; the gradients are left in the parameters."""
        stacked = Batch(*(torch.stack(part) for part in zip(*batches, strict=True)))
        with self.precision:
            value, cross_entropy_R = self._objectives_of(
                self._template, self.loss, self._parameters, self._buffers, stacked
            )
        trained = {name: tensor for name, tensor in self._parameters.items() if tensor.requires_grad}
        gradients = torch.autograd.grad(value, list(trained.values()), allow_unused=True)
        for name, gradient in zip(trained, gradients, strict=True):
            if gradient is None:
                continue
            rows = gradient.contiguous()  # fused optimizers take for granted that it lies as the parameter does
            for run, model in enumerate(self.models):
                model.get_parameter(name).grad = rows[run]
        return cross_entropy_R.detach()

    def of(self, runs: Sequence[int]) -> "Pack":
        """A smaller pack of some of these models; the others keep their tensors."""
        models = [self.models[run] for run in runs]
        return Pack(models, self.loss, precision=self.precision, compile=self.compile, template=self._template)


def objectives_of(
    template: nn.Module, loss: Loss, parameters: Stacked, buffers: Stacked, batches: Batch
) -> tuple[Tensor, Tensor]:
    """The sum of all objectives, whose gradient at each row is that of its own, and the ``R`` cross-entropies."""

    def objective_of(own_parameters: Stacked, own_buffers: Stacked, inputs_BT: Tensor, targets_BT: Tensor):
        logits = functional_call(template, (own_parameters, own_buffers), (inputs_BT,))
        return tuple(loss(logits, targets_BT))

    rows_of_buffers = {name: None if name.startswith(SHARED) else 0 for name in buffers}
    in_dims = (0, rows_of_buffers, 0, 0)
    value_R, cross_entropy_R = vmap(objective_of, in_dims)(parameters, buffers, *batches)
    return value_R.sum(), cross_entropy_R


@cache
def compiled_objectives() -> Callable[..., tuple[Tensor, Tensor]]:
    """``objectives_of`` through torch.compile, one for all packs of the process."""
    torch._dynamo.config.recompile_limit = MOST_GRAPHS
    return torch.compile(objectives_of, dynamic=False)


def check_alike(models: Sequence[nn.Module]) -> None:
    """Raise ConfigError at the first tensor in which the structure of two models differs."""
    first, *others = (_shapes(model) for model in models)
    for other in others:
        if first != other:
            name = next(name for name in first | other if first.get(name) != other.get(name))
            raise ConfigError(
                f"Models that train in one pack must have the same structure; '{name}' is {first.get(name)} in one and "
                f"{other.get(name)} in another. Type hydra/launcher=basic."
            )


def _shapes(model: nn.Module) -> dict[str, tuple[object, ...]]:
    tensors = (*model.named_parameters(), *model.named_buffers())
    return {name: (tuple(tensor.shape), tensor.dtype, tensor.requires_grad) for name, tensor in tensors}


def _names(model: nn.Module) -> list[str]:
    """The parameters, a tied weight once."""
    return [name for name, _ in model.named_parameters()]


@torch.no_grad()
def _stack(models: Sequence[nn.Module], name: str, get: Callable[[nn.Module, str], Tensor]) -> Tensor:
    """A copy of one tensor of all models, which takes the place of theirs."""
    own = [get(model, name) for model in models]
    stacked = torch.stack([tensor.detach() for tensor in own])
    for tensor, row in zip(own, stacked, strict=True):
        tensor.data = row
    return stacked.requires_grad_(own[0].requires_grad)


def _stack_buffer(models: Sequence[nn.Module], name: str) -> Tensor:
    if name.startswith(SHARED):
        return models[0].get_buffer(name)
    return _stack(models, name, nn.Module.get_buffer)
