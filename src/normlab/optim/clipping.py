"""Gradient clipping by the global norm."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float | None) -> Tensor:
    """Scale all gradients by min(1, max_norm / (norm + 1e-6)) in place; return the norm before clipping, a scalar.

    The norm is the 2-norm over all gradients as one vector.  Pascanu et al. 2013, algorithm 1. ``max_norm=None``
    only measures. Where the norm is not finite (an overflow is enough) the gradients are spoilt: the caller decides.
    """
    with_gradient = [parameter for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in with_gradient])  # type: ignore[misc]
    if max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(with_gradient, max_norm, norm)
    return norm
