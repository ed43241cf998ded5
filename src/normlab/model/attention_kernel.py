"""The attention kernel of ``attention_kernel.cpp`` as an operation of torch: causal, with or without a clamp, on CPU.

softmax(mask(clamp(scale * q k^T))) v with all arithmetic in float32; memory grows linearly with the context. One
operation for autograd, torch.compile and torch.func.vmap; limits are a tensor, so that none is part of a graph.
It has no second derivative.

Shapes: ``B`` batch, ``H`` heads, ``T`` time, ``K`` head width; ``R`` runs that are computed side by side, each with
its own limit; ``S`` the time, filled up to whole panels of keys.
"""

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from normlab.model.clamp import HardClamp, LimitedClamp, SoftClamp
from normlab.model.native_code import load_native

SOURCE = Path(__file__).with_name("attention_kernel.cpp")
KINDS: dict[type[nn.Module], int] = {nn.Identity: 0, HardClamp: 1, SoftClamp: 2}
PANEL = 64
"""Keys in a panel, as in the C++ file."""


class _Heads(ctypes.Structure):
    """A tensor ``BHTK`` as C sees it."""

    _fields_ = [("data", ctypes.c_void_p), ("batch", ctypes.c_long), ("head", ctypes.c_long), ("time", ctypes.c_long)]


class _Problem(ctypes.Structure):
    """What all heads have in common."""

    _fields_ = [
        *((name, ctypes.c_long) for name in ("batch_size", "num_heads", "num_tokens", "head_width", "is_bfloat16")),
        *((name, ctypes.c_long) for name in ("clamp", "batch_size_of_limit", "num_threads")),
        ("scale", ctypes.c_float),
        ("limits", ctypes.c_void_p),
    ]


def is_available() -> bool:
    """Whether this machine can compile the kernel; the first question ever compiles it, which takes seconds."""
    return load_native(SOURCE) is not None


def serves(query: Tensor, key: Tensor, value: Tensor, clamp: nn.Module) -> bool:
    """Whether the kernel, once available, computes this: float32 or bfloat16 on CPU, and a clamp that it knows."""
    return (
        query.device.type == "cpu"
        and query.dtype in (torch.float32, torch.bfloat16)
        and query.dtype == key.dtype == value.dtype
        and query.shape == key.shape == value.shape
        and type(clamp) in KINDS
    )


def kernel_attention(query: Tensor, key: Tensor, value: Tensor, *, scale: float, clamp: nn.Module) -> Tensor:
    """Attention over the last two dimensions, heads in the one before; whatever leads is batch."""
    limit = clamp.limit_tensor if isinstance(clamp, LimitedClamp) else query.new_zeros(())
    num_heads = query.shape[-3] if query.ndim > 2 else 1
    as_heads = [x.reshape(-1, num_heads, *x.shape[-2:]) for x in (query, key, value)]
    attended_BHTK, _ = _attend(*as_heads, limit.float().reshape(1), KINDS[type(clamp)], scale)
    return attended_BHTK.reshape(query.shape)


@torch.library.custom_op("normlab::attention", mutates_args=(), device_types="cpu")
def _attend(
    query_BHTK: Tensor, key_BHTK: Tensor, value_BHTK: Tensor, limit_R: Tensor, kind: int, scale: float
) -> tuple[Tensor, Tensor]:
    """What is attended to, and of each row of logits the maximum and the sum of exp(z - maximum)."""
    inputs = [_readable(x) for x in (query_BHTK, key_BHTK, value_BHTK)]
    output_BHTK, rows_2BHS = _outputs(query_BHTK)
    problem = _problem(query_BHTK, limit_R, kind, scale)
    _library().forward(problem, *map(_heads, [*inputs, output_BHTK]), *map(_pointer, rows_2BHS))
    return output_BHTK, rows_2BHS


@torch.library.custom_op("normlab::attention_backward", mutates_args=(), device_types="cpu")
def _gradients(
    gradient_BHTK: Tensor,
    query_BHTK: Tensor,
    key_BHTK: Tensor,
    value_BHTK: Tensor,
    limit_R: Tensor,
    output_BHTK: Tensor,
    rows_2BHS: Tensor,
    kind: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values."""
    inputs = [_readable(x) for x in (query_BHTK, key_BHTK, value_BHTK, output_BHTK)]
    gradient_BHTK = _readable(gradient_BHTK)
    results = _like_heads(query_BHTK), _like_heads(query_BHTK), _like_heads(query_BHTK)
    rows = map(_pointer, rows_2BHS.contiguous())
    problem = _problem(query_BHTK, limit_R, kind, scale)
    _library().backward(problem, *map(_heads, inputs), *rows, *map(_heads, [gradient_BHTK, *results]))
    return results


@_attend.register_fake
def _(query_BHTK: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return _outputs(query_BHTK)


@_gradients.register_fake
def _(gradient_BHTK: Tensor, query_BHTK: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _like_heads(query_BHTK), _like_heads(query_BHTK), _like_heads(query_BHTK)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.kind, ctx.scale = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, gradient_BHTK: Tensor, gradient_of_rows: Tensor | None) -> tuple[Tensor | None, ...]:
    return *_gradients(gradient_BHTK, *ctx.saved_tensors, ctx.kind, ctx.scale), None, None, None


_attend.register_autograd(_backward, setup_context=_keep)


def _over_runs(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> tuple[list[Any], list[int]]:
    """Runs as further batch; a limit of each of them, or one for all."""
    moved = []
    for argument, dim in zip(arguments, in_dims, strict=True):
        if isinstance(argument, Tensor) and not (dim is None and argument.ndim == 1):
            argument = argument.expand(info.batch_size, *argument.shape) if dim is None else argument.movedim(dim, 0)
        moved.append(argument)
    return moved, [info.batch_size]


@_attend.register_vmap
def _(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> Any:
    (*heads, limit, kind, scale), _ = _over_runs(info, in_dims, *arguments)
    output, rows = _attend(*(x.flatten(0, 1) for x in heads), limit.flatten(), kind, scale)
    return (output.unflatten(0, (info.batch_size, -1)), rows.unflatten(1, (info.batch_size, -1))), (0, 1)


@_gradients.register_vmap
def _(info: Any, in_dims: Sequence[int | None], *arguments: Any) -> Any:
    (*heads, limit, output, rows, kind, scale), _ = _over_runs(info, in_dims, *arguments)
    of_heads = [x.flatten(0, 1) for x in (*heads, output)]
    flat_rows = rows.movedim(0, 1).flatten(1, 2)
    results = _gradients(*of_heads[:-1], limit.flatten(), of_heads[-1], flat_rows, kind, scale)
    return tuple(x.unflatten(0, (info.batch_size, -1)) for x in results), (0, 0, 0)


def _outputs(query_BHTK: Tensor) -> tuple[Tensor, Tensor]:
    batch_size, num_heads, num_tokens, _ = query_BHTK.shape
    filled_up = (num_tokens + PANEL - 1) // PANEL * PANEL
    rows = query_BHTK.new_zeros(2, batch_size, num_heads, filled_up, dtype=torch.float32)
    return _like_heads(query_BHTK), rows


def _like_heads(like_BHTK: Tensor) -> Tensor:
    """Empty, in memory by time, then heads: the sublayer's output projection gets it without a copy."""
    batch_size, num_heads, num_tokens, head_width = like_BHTK.shape
    return like_BHTK.new_empty(batch_size, num_tokens, num_heads, head_width).transpose(1, 2)


def _readable(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _library() -> ctypes.CDLL:
    library = load_native(SOURCE)
    assert library is not None
    return library


def _problem(query_BHTK: Tensor, limit_R: Tensor, kind: int, scale: float) -> Any:
    limit_R = limit_R.contiguous()
    problem = _Problem(
        *query_BHTK.shape,
        query_BHTK.dtype == torch.bfloat16,
        kind,
        max(1, query_BHTK.shape[0] // len(limit_R)),
        torch.get_num_threads(),
        scale,
        limit_R.data_ptr(),
    )
    return ctypes.byref(problem)


def _heads(x_BHTK: Tensor) -> Any:
    return ctypes.byref(_Heads(x_BHTK.data_ptr(), *x_BHTK.stride()[:3]))


def _pointer(x: Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(x.data_ptr())
