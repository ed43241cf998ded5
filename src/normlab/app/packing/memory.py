"""How much memory a run takes in a pack, told before it is there."""

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from normlab.app.build import Experiment
from normlab.app.memory import free_bytes
from normlab.train.hardware import autocast
from normlab.train.pack_template import template_of

NUM_COPIES = 7
"""Of the weights: themselves, gradients, AdamW's two moments, and what the black box copies of all but gradients."""
NUM_OF_LARGEST = 2
"""How many more tensors as large as the largest that is kept a backward pass holds at a time: logits, mostly."""
USED_FRACTION = 0.8
"""Of what is free; the rest is left for validation, figures and others."""


def run_bytes(experiment: Experiment) -> int:
    """What one run adds to a pack, at most: weights and their copies, and what its forward pass keeps."""
    weights = sum(weight.numel() * weight.element_size() for weight in experiment.model.parameters())
    kept = kept_by_forward_pass(experiment)
    return NUM_COPIES * weights + sum(kept) + NUM_OF_LARGEST * max(kept)


def kept_by_forward_pass(experiment: Experiment) -> list[int]:
    """The bytes of every tensor that an uncompiled forward pass keeps for the backward pass; nothing is computed."""
    kept: dict[int, int] = {}
    alive: list[Tensor] = []  # so that no storage takes another's place

    def keep(tensor: Tensor) -> Tensor:
        alive.append(tensor)
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    model, shape = experiment.model, (experiment.batches.batch_size, experiment.batches.context_length)
    template = template_of(model)
    with FakeTensorMode() as fake, autocast(experiment.device, experiment.settings.precision):
        weights: dict[str, Tensor] = {
            name: fake.from_tensor(weight) for name, weight in (*model.named_parameters(), *model.named_buffers())
        }
        tokens = torch.zeros(shape, dtype=torch.long, device=experiment.device)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            experiment.loss(functional_call(template, weights, (tokens,)), tokens)
    own = {weight.untyped_storage()._cdata for weight in weights.values()}
    return [size for storage, size in kept.items() if storage not in own]


def available_bytes(experiment: Experiment) -> float | None:
    """What a pack may take of its device; None where nobody knows."""
    if experiment.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(experiment.device)
        return USED_FRACTION * free
    free = free_bytes() if experiment.device.type == "cpu" else None
    return None if free is None else USED_FRACTION * free


class Room:
    """How many runs fit side by side: as many as the first says of itself that memory holds, at most ``max_runs``."""

    def __init__(self, max_runs: int):
        self.max_runs = max_runs
        self._fitting: int | None = None

    def __call__(self, first: Experiment, num_runs: int) -> bool:
        """Whether one more fits beside ``num_runs``."""
        if self._fitting is None:
            free = available_bytes(first)
            self._fitting = self.max_runs if free is None else min(self.max_runs, int(free / run_bytes(first)))
        return num_runs < self._fitting
