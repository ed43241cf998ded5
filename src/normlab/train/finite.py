"""Whether tensors hold nothing but finite numbers, told at the price of one pass over them."""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor

from normlab.model.spread_weights import local


@torch.no_grad()
def are_finite(tensors: Iterable[Tensor]) -> bool:
    """False where any of them, on whatever device, holds a NaN or an infinity; of those that are spread, what is here.

    A 2-norm is not finite where an element is not, and is much faster than asking each element. It may overflow where
    none is: only then each is asked.
    """
    by_device: dict[torch.device, list[Tensor]] = defaultdict(list)
    for tensor in map(local, tensors):
        if tensor.is_floating_point():
            by_device[tensor.device].append(tensor)
    return all(_norms_are_finite(group) or _elements_are_finite(group) for group in by_device.values())


def _norms_are_finite(tensors: list[Tensor]) -> bool:
    norms = torch._foreach_norm(tensors, 2)  # pyright: ignore[reportPrivateImportUsage]
    return bool(torch.stack(norms).isfinite().all())


def _elements_are_finite(tensors: list[Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)
