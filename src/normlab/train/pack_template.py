"""The model that a pack calls with the tensors of each of its runs: the structure alone, without any numbers.

Shapes: ``B`` batch, ``H`` heads, ``T`` time, ``K`` head width.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from normlab.model.attention import NO_CLAMP, FusedAttention, in_autocast
from normlab.model.attention_kernel import kernel_attention, serves

SHARED = "position."
"""Where the buffers are tables, the same in all models of a structure, which no forward pass writes to."""


class PackedAttention(nn.Module):
    """softmax(mask(scale * q k^T))) v in a form that takes all runs at once.

    Torch's kernel for the CPU would take them one by one. Ours takes them as further batch; where it cannot be had,
    the formula is computed step by step.
    """

    def __init__(self, fused: FusedAttention):
        super().__init__()
        self.scale = fused.scale
        self.has_kernel = fused.has_kernel
        self.fused = fused
        self.spelt_out = fused.spelt_out()

    def forward(self, query_BHTK: Tensor, key_BHTK: Tensor, value_BHTK: Tensor) -> Tensor:
        inputs = in_autocast(query_BHTK, key_BHTK, value_BHTK)
        if query_BHTK.device.type != "cpu":
            return self.fused(*inputs)
        if self.has_kernel and serves(*inputs, NO_CLAMP):
            return kernel_attention(*inputs, scale=self.scale, clamp=NO_CLAMP)
        return self.spelt_out(*inputs)


def template_of(model: nn.Module) -> nn.Module:
    """A copy of the model without its numbers."""
    nothing = {id(tensor): _without_numbers(tensor) for tensor in (*model.parameters(), *model.buffers())}
    template = deepcopy(model, nothing)
    for module in list(template.modules()):
        for name, part in module.named_children():
            if isinstance(part, FusedAttention):
                setattr(module, name, PackedAttention(part))
    return template


def _without_numbers(tensor: Tensor) -> Tensor:
    if not isinstance(tensor, nn.Parameter):
        return torch.empty_like(tensor, device="meta")
    return nn.Parameter(torch.empty_like(tensor, device="meta"), requires_grad=tensor.requires_grad)
