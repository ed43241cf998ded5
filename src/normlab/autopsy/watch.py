"""Every operation of the passes, until one makes a non-finite value out of finite ones.

The infinities that belong to a model (the causal mask's, bounds that do not bind) are no accident: an operation is to
blame where its output holds a NaN and its inputs none, or an infinity that neither stood in its inputs nor was
given to it as a number.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from normlab.autopsy.axes import Sizes, located
from normlab.autopsy.finding import FirstNonfinite, contents_of, name_of
from normlab.autopsy.kinds import kind_of
from normlab.autopsy.places import Places

UNINITIALISED = frozenset({"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"})
"""Operations that give memory as it is, whatever it holds."""

GRADIENTS = frozenset({"grad", "grad_out", "grad_out_", "grad_output"})
"""What operations of the way back call the gradient that they take."""

OVERFLOWS = frozenset({"exp_overflow", "product_overflow", "sum_overflow"})

Named = list[tuple[str, Tensor]]


class Watch(TorchDispatchMode):
    """Sees the operations of ATen below autograd, of both passes; ``found`` is the first that is to blame."""

    def __init__(self, places: Places, sizes: Sizes, name_of_weight: dict[int, str]):
        super().__init__()
        self.found: FirstNonfinite | None = None
        self._places = places
        self._sizes = sizes
        self._name_of_weight = dict(name_of_weight)
        self._copies_of_weights: list[Tensor] = []  # kept, so that nothing else comes to lie where they do

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func._schema.name.removeprefix("aten::")
        if self.found is not None or func.is_view or name in UNINITIALISED:
            output = func(*args, **kwargs)
            self._places.remember_node()
            return output
        inputs = list(_inputs_before(func, args, kwargs))
        output = func(*args, **kwargs)
        self._places.remember_node()
        if name == "_to_copy" and (weight := self._name_of_weight.get(args[0].data_ptr())) is not None:
            self._name_of_weight[output.data_ptr()] = weight
            self._copies_of_weights.append(output)
        may_be_infinite = any(_is_infinite_number(value) for value in tree_leaves((args, kwargs)))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and not tensor.isfinite().all():
                is_new = _is_new(tensor, [x for _, x in inputs], torch.Tag.pointwise in func.tags, may_be_infinite)
                if is_new.any():
                    self._blame(name, inputs, tensor, is_new)
                    break
        return output

    def _blame(self, name: str, inputs: Named, output: Tensor, is_new: Tensor) -> None:
        place, is_backward = self._places.current()
        tensors = [tensor for _, tensor in inputs]
        kind = kind_of(name, tensors, output, place.site, is_backward)
        were_finite = all(tensor.isfinite().all() for tensor in tensors)
        has_overflown = kind in OVERFLOWS or (kind in ("inf_minus_inf", "loss_overflow") and were_finite)
        self.found = FirstNonfinite(
            phase="backward" if is_backward else "forward",
            layer=place.layer,
            site=place.site,
            operation=f"aten.{name}",
            kind=kind,
            limit_dtype=name_of(output.dtype) if has_overflown else None,
            inputs=tuple(contents_of(self._name_of(label, x), x) for label, x in inputs),
            output=contents_of("output", output),
            elements=located(is_new, self._sizes),
        )

    def _name_of(self, argument: str, tensor: Tensor) -> str:
        weight = self._name_of_weight.get(tensor.data_ptr())
        return weight or ("gradient" if argument in GRADIENTS else argument)


def _inputs_before(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    """The tensors that an operation reads, by the names of its arguments; of those it will overwrite, copies."""
    for position, argument in enumerate(func._schema.arguments):
        value = args[position] if position < len(args) else kwargs.get(argument.name)
        is_written = argument.alias_info is not None and argument.alias_info.is_write
        if argument.kwarg_only and is_written:
            continue  # an output that the caller provides: its content is not read
        for tensor in tree_leaves(value):
            if isinstance(tensor, Tensor):
                yield argument.name, tensor.clone() if is_written else tensor


def _is_infinite_number(value: Any) -> bool:
    return isinstance(value, float) and math.isinf(value)


def _is_new(output: Tensor, inputs: list[Tensor], is_pointwise: bool, may_be_infinite: bool) -> Tensor:
    """Where the output is not finite and neither an input nor a number that the operation was given explains it."""
    inputs = [tensor for tensor in inputs if tensor.is_floating_point() and not tensor.isfinite().all()]
    is_new = torch.zeros_like(output, dtype=torch.bool)
    if not any(tensor.isnan().any() for tensor in inputs):
        is_new |= output.isnan()
    if may_be_infinite:
        return is_new
    for infinity in (math.inf, -math.inf):
        is_explained = torch.zeros_like(is_new)
        for tensor in inputs:
            is_infinite = tensor == infinity
            is_explained |= is_infinite if is_pointwise else is_infinite.any()
        is_new |= (output == infinity) & ~is_explained
    return is_new
