"""What an optimizer step does: norms of gradients, weights and updates, by the role of the weights.

Hooks of the optimizer read before and after its step. Whatever else happens to the weights in a step (QK-clip) has to
be hooked on before this, and then counts as update.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim

from normlab.model.language_model import LanguageModel
from normlab.model.spread_weights import local
from normlab.telemetry.activations import Readings
from normlab.telemetry.weight_groups import group_of, groups_of


class UpdateProbe:
    """``grad_norm``, ``weight_norm``, ``update_norm`` and ``update_ratio`` (update over weight norm), by role.

    Norms are 2-norms over all weights of a role as one vector; gains, biases and gates are one group, ``gains``. With
    ``per_layer`` also by role and layer. The gradient is the one that the optimizer gets, after clipping. Of weights
    that are spread over devices, those that are here are read.
    """

    def __init__(self, model: LanguageModel, optimizer: optim.Optimizer, *, per_layer: bool):
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self._parameters = [parameter for _, parameter in named]
        groups = _groups_of([name for name, _ in named], per_layer)
        self._names = list(groups)
        device = self._parameters[0].device
        self._members = torch.tensor([index for members in groups.values() for index in members], device=device)
        sizes = torch.tensor([len(members) for members in groups.values()], device=device)
        self._group_of_member = torch.arange(len(groups), device=device).repeat_interleave(sizes)
        self._before: list[Tensor] = []  # one copy of the weights, kept: fresh memory costs more than the copying
        self._is_due = False
        self.readings: Readings = {}
        optimizer.register_step_pre_hook(self._read_before)
        optimizer.register_step_post_hook(self._read_after)

    def watch_next_step(self) -> None:
        """Read at the optimizer's next step; what was read before is forgotten."""
        self.readings = {}
        self._is_due = True

    def forget(self) -> None:
        """Do not read at the next step, even where the last one never came."""
        self._is_due = False

    @torch.no_grad()
    def _read_before(self, *_: Any) -> None:
        if self._is_due:
            if not self._before:
                self._before = [torch.empty_like(local(parameter)) for parameter in self._parameters]
            for before, parameter in zip(self._before, self._parameters, strict=True):
                before.copy_(local(parameter))
            self._read("grad_norm", [_gradient_of(parameter) for parameter in self._parameters])

    @torch.no_grad()
    def _read_after(self, *_: Any) -> None:
        if not self._is_due:
            return
        weight_norms = self._read("weight_norm", self._before)
        for before, parameter in zip(self._before, self._parameters, strict=True):
            before.sub_(local(parameter))
        update_norms = self._read("update_norm", self._before)
        self._keep("update_ratio", update_norms / weight_norms)
        self._is_due = False

    def _read(self, statistic: str, tensors: Sequence[Tensor]) -> Tensor:
        """The norm of every group."""
        norms = torch.stack([torch.linalg.vector_norm(tensor, dtype=torch.float32) for tensor in tensors])
        squares = torch.zeros(len(self._names), device=norms.device)
        squares.index_add_(0, self._group_of_member, norms[self._members].square())
        group_norms = squares.sqrt()
        self._keep(statistic, group_norms)
        return group_norms

    def _keep(self, statistic: str, values: Tensor) -> None:
        for name, value in zip(self._names, values, strict=True):
            self.readings[f"{statistic}/{name}"] = value


def _gradient_of(parameter: nn.Parameter) -> Tensor:
    return local(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)


def _groups_of(names: Sequence[str], per_layer: bool) -> dict[str, list[int]]:
    """The positions of the parameters of each group."""
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        for group in groups_of(name) if per_layer else [group_of(name)]:
            groups.setdefault(group, []).append(index)
    return groups
