"""Spreading the weights of a model over devices, and bringing them together."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from normlab.core.errors import ConfigError
from normlab.model.qk_clip import QKRescale
from normlab.model.spread_weights import is_spread, whole
from normlab.train.distributed.world import World


def spread_like(tensor: Any, values: Tensor) -> Tensor:
    """This process's part of the whole values, which all processes have, as ``tensor`` is spread."""
    if not is_spread(tensor):
        return values
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(values.to(tensor.device), tensor.device_mesh, tensor.placements, src_data_rank=None)


def brought_together(tensors: Mapping[str, Tensor], world: World) -> dict[str, Tensor]:
    """Whole, on the CPU, at rank 0; nothing elsewhere. One at a time, so that no device has to hold them all."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        complete = whole(tensor.detach())
        if world.is_main:
            found[name] = complete.cpu()
    return found


def spread(model: nn.Module, world: World) -> None:
    """Spread the weights of each layer, and of the rest, over all devices, in place; names stay.

    They are gathered for each layer's passes and given up after them, so that between passes all are spread.
    Raises ConfigError for a model with parts that need whole weights.
    """
    scalar = next((name for name, parameter in model.named_parameters() if parameter.ndim == 0), None)
    if scalar is not None:
        raise ConfigError(f"trainer.parallel=fsdp spreads rows, and {scalar} is a single number. Type trainer=ddp.")
    if any(isinstance(module, QKRescale) for module in model.modules()):
        raise ConfigError("trainer.parallel=fsdp spreads rows, and qk_clip rescales whole heads. Type trainer=ddp.")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(next(model.parameters()).device.type, (world.size,))
    for layer in model.layers:  # type: ignore[union-attr]
        fully_shard(layer, mesh=mesh, reshard_after_forward=True)  # type: ignore[arg-type]
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
