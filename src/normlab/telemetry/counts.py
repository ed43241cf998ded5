"""What a training step of a model takes, counted from the model itself: parameters, operations, memory.

Shapes: ``B`` batch, ``T`` time.
"""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn, optim
from torch.utils.flop_counter import FlopCounterMode

from normlab.model.attention import attention_spelt_out
from normlab.model.language_model import LanguageModel
from normlab.model.loss import Loss
from normlab.telemetry.weight_groups import group_of


@dataclass(frozen=True)
class StepCounts:
    """Operations of a training step (forward and backward; a multiplication and an addition are two), and bytes.

    Attention counts as if every query met every key; what is done element by element does not count.
    """

    flops: int
    weight_bytes: int
    gradient_bytes: int
    optimizer_bytes: int


def parameters_by_role(model: nn.Module) -> dict[str, int]:
    """The number of trained values of each role, a tied weight counted once; ``gains`` are all that have no role."""
    counts: Counter[str] = Counter()
    for name, parameter in model.named_parameters():
        counts[group_of(name)] += parameter.numel()
    return dict(counts)


def count_step(
    model: LanguageModel, loss: Loss, make_optimizer: Callable[[nn.Module], optim.Optimizer], batch_BT: Tensor
) -> StepCounts:
    """Count one step on a batch of this shape. Weights stay as they are; gradients are left at None."""
    weight_bytes = _num_bytes(model.parameters())
    return StepCounts(
        flops=_num_flops(model, loss, batch_BT),
        weight_bytes=weight_bytes,
        gradient_bytes=weight_bytes,
        optimizer_bytes=_num_state_bytes(model, make_optimizer),
    )


def _num_flops(model: LanguageModel, loss: Loss, batch_BT: Tensor) -> int:
    """From one and two sequences, as the number is a + b * B: what concerns weights alone, and each sequence."""
    flops = []
    for num_sequences in (1, 2):
        tokens_BT = batch_BT[:1].expand(num_sequences, -1)
        with FlopCounterMode(display=False) as counter, attention_spelt_out(model):
            loss(model(tokens_BT), tokens_BT).value.backward()
        flops.append(counter.get_total_flops())
    model.zero_grad(set_to_none=True)
    return flops[0] + (len(batch_BT) - 1) * (flops[1] - flops[0])


def _num_state_bytes(model: LanguageModel, make_optimizer: Callable[[nn.Module], optim.Optimizer]) -> int:
    """What the optimizer keeps after a step, of a copy without values (the ``meta`` device), which costs nothing."""
    shadow = copy.deepcopy(model).to("meta")
    for parameter in shadow.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer = make_optimizer(shadow)
    optimizer.step()
    states = (state.values() for state in optimizer.state.values())
    return _num_bytes(value for values in states for value in values if isinstance(value, Tensor))


@dataclass
class SavedTensors:
    """What a forward pass keeps for the backward pass, weights aside."""

    num_bytes: int = 0
    _seen: set[int] = field(default_factory=set)


@contextmanager
def counting_saved_tensors(model: nn.Module) -> Iterator[SavedTensors]:
    """Count while the block runs a forward pass; a tensor that is kept twice counts once."""
    saved = SavedTensors()
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights | saved._seen:
            saved._seen.add(storage.data_ptr())
            saved.num_bytes += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield saved


def _num_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
