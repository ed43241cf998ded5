"""The tensors that a training consists of, by name, and how saved ones take their places."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn, optim

from normlab.core.errors import CheckpointError
from normlab.core.strict_json import shown_name
from normlab.train.distributed.sharding import spread_like

STEP = "step"


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers by name, a tied weight once."""
    kept = model.state_dict().keys()
    return {name: tensor for name, tensor in (*model.named_parameters(), *model.named_buffers()) if name in kept}


def optimizer_tensors_of(model: nn.Module, optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """Optimizer state by "<parameter name>/<state name>"."""
    return {
        f"{name}/{key}": value
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def fill_model(model: nn.Module, saved: Mapping[str, Tensor], source: Path | str) -> None:
    """Copy the saved weights into the model; where they do not fit it raises CheckpointError and changes nothing."""
    weights = weights_of(model)
    check_weights(weights, saved, source)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(spread_like(weight, saved[name]))


def fill_optimizer(
    model: nn.Module, optimizer: optim.Optimizer, saved: Mapping[str, Tensor], source: Path | str
) -> None:
    """Put copies of the saved state in the place of the optimizer's own; raises CheckpointError as above."""
    _check_optimizer_tensors(model, optimizer, saved, source)
    parameters = dict(model.named_parameters())
    fused = {id(parameter) for group in optimizer.param_groups if group.get("fused") for parameter in group["params"]}
    optimizer.state.clear()
    for key, value in saved.items():
        name, _, state_name = key.rpartition("/")
        # The step count stays on the CPU, where torch's optimizers keep it, unless their kernels are fused.
        stays = state_name == STEP and id(parameters[name]) not in fused
        device = value.device if stays else parameters[name].device
        placed = value if value.ndim == 0 else spread_like(parameters[name], value)
        optimizer.state[parameters[name]][state_name] = placed.to(device, copy=True)


def check_weights(weights: Mapping[str, Tensor], saved: Mapping[str, Tensor], source: Path | str) -> None:
    """Raise CheckpointError at the first name, shape or type in which the saved weights differ from the model's."""
    if weights.keys() != saved.keys():
        name = min(weights.keys() ^ saved.keys())
        where = "the file" if name in saved else "the model"
        raise CheckpointError(f"{source} was written for another model: only {where} has {shown_name(name)}.")
    for name, weight in weights.items():
        _check_alike(name, weight, saved[name], source)


def _check_optimizer_tensors(
    model: nn.Module, optimizer: optim.Optimizer, saved: Mapping[str, Tensor], source: Path | str
) -> None:
    """Raise CheckpointError where the saved state is no such optimizer's.

    It is one number, or as large as the parameter, and parameters of one group have the same kinds of state.
    """
    parameters = dict(model.named_parameters())
    kinds: dict[str, set[str]] = {name: set() for name in parameters}
    for key, value in saved.items():
        name, _, state_name = key.rpartition("/")
        if name not in parameters:
            raise CheckpointError(
                f"{source} was written for another model: it holds state for {shown_name(name)}, which is not in this "
                "one."
            )
        kinds[name].add(state_name)
        if state_name == STEP or value.ndim > 0:
            like = torch.zeros(()) if state_name == STEP else parameters[name]
            _check_alike(key, like, value, source)
    names = {parameter: name for name, parameter in parameters.items()}
    for group in optimizer.param_groups:
        members = [names[parameter] for parameter in group["params"] if parameter in names]
        odd = next((name for name in members if kinds[name] != kinds[members[0]]), None)
        if odd is not None:
            raise CheckpointError(
                f"{source} is incomplete: '{odd}' and '{members[0]}' must have the same kinds of optimizer state. "
                "Choose another checkpoint."
            )


def _check_alike(name: str, tensor: Tensor, saved: Tensor, source: Path | str) -> None:
    if tensor.shape != saved.shape:
        raise CheckpointError(
            f"{source} was written for another model: {shown_name(name)} is {_sizes(saved)} there and "
            f"{_sizes(tensor)} here."
        )
    if tensor.dtype != saved.dtype:
        raise CheckpointError(
            f"{source} was written for another model: {shown_name(name)} is {saved.dtype} there and "
            f"{tensor.dtype} here."
        )


def _sizes(tensor: Tensor) -> str:
    """The shape, cut where a hostile file has very many axes."""
    return str(tuple(tensor.shape)) if tensor.ndim <= 8 else f"of {tensor.ndim} axes"
