"""What kind of accident an operation had, told from its name, its inputs and its output."""

from collections.abc import Sequence

import torch
from torch import Tensor

from normlab.autopsy.finding import Kind

EXPONENTIALS = frozenset({"exp", "exp2", "expm1"})
QUOTIENTS = frozenset({"div", "true_divide"})
INVERSES = frozenset({"rsqrt", "reciprocal", "pow"})
PRODUCTS = frozenset(
    {"mm", "bmm", "addmm", "baddbmm", "mv", "dot", "vdot", "linear", "matmul", "mul", "square", "addcmul", "addcdiv"}
    | {"linalg_vector_norm", "norm", "var", "std", "native_layer_norm", *QUOTIENTS, *INVERSES}
)
SUMS = frozenset(
    {"add", "sub", "rsub", "sum", "mean", "cumsum", "lerp", "index_add", "index_put", "embedding_dense_backward"}
    | {"_softmax", "_safe_softmax", "_log_softmax", "logsumexp"}
)


def kind_of(name: str, inputs: Sequence[Tensor], output: Tensor, site: str, is_backward: bool) -> Kind:
    """The kind, for an operation of ATen whose output is the first of all that is not finite."""
    name = name.rstrip("_")
    if site == "loss" and not is_backward:
        return "loss_overflow"
    if name in EXPONENTIALS or (name == "sum" and site.endswith("softmax") and not is_backward):
        return "exp_overflow"
    if _divides_by_zero(name, inputs, output):
        return "zero_over_zero"
    if name in SUMS:
        return "inf_minus_inf" if output.isnan().any() else "sum_overflow"
    if name in PRODUCTS or "_backward" in name or name.startswith("_scaled_dot_product"):
        return "product_overflow"
    return "other"


def _divides_by_zero(name: str, inputs: Sequence[Tensor], output: Tensor) -> bool:
    if name not in QUOTIENTS | INVERSES or not inputs:
        return False
    divisor = inputs[-1] if name in QUOTIENTS else inputs[0]
    divisor = divisor.to(output.device)  # a single number may lie on the CPU beside an output that does not
    return bool((torch.broadcast_to(divisor, output.shape)[~output.isfinite()] == 0).any())
