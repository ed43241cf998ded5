"""Operations and numbers of a step in words that can be read aloud."""

from collections.abc import Sequence

from normlab.autopsy.finding import FirstNonfinite
from normlab.telemetry.number_text import short_exponent

ARGUMENTS = {
    "query": "the queries",
    "key": "the keys",
    "value": "the values",
    "out": "what it gave",
    "logsumexp": "the logarithms of its sums",
}
"""What operations of ATen call what they take, where that says what it is."""
MATRIX_PRODUCTS = ("mm", "bmm", "addmm", "baddbmm", "mv", "dot", "vdot", "matmul", "linear")
OPERATIONS = {
    **dict.fromkeys(("exp", "exp2", "expm1"), "the exponential"),
    **dict.fromkeys(MATRIX_PRODUCTS, "the matrix product"),
    **dict.fromkeys(("mul", "addcmul"), "the product"),
    **dict.fromkeys(("div", "true_divide", "addcdiv", "reciprocal"), "the quotient"),
    **dict.fromkeys(("linalg_vector_norm", "norm"), "the length"),
    **dict.fromkeys(("_softmax", "_safe_softmax"), "the softmax"),
    **dict.fromkeys(("sub", "rsub"), "the difference"),
    **dict.fromkeys(("add", "sum", "cumsum", "index_add", "index_put"), "the sum"),
    "_log_softmax": "the logarithm of the softmax",
    "_to_copy": "the conversion to another type",
    "cross_entropy_loss": "the cross-entropy",
    "embedding_dense_backward": "the sum of the gradients of a token",
    "log": "the logarithm",
    "logsumexp": "the logarithm of the sum of exponentials",
    "mean": "the mean",
    "native_layer_norm": "the norm",
    "nll_loss_forward": "the mean over the tokens",
    "pow": "the power",
    "rsqrt": "the inverse square root",
    "sigmoid": "the sigmoid",
    "silu": "the activation (SiLU)",
    "sqrt": "the square root",
    "square": "the square",
    "std": "the standard deviation",
    "var": "the variance",
}
MOST_NUMBERS = 4


def operation_in_words(finding: FirstNonfinite) -> str:
    """What an operation of ATen does, as "the exponential"; those of the optimizer as they call themselves."""
    name = finding.operation.removeprefix("aten.").rstrip("_")
    if not finding.operation.startswith("aten."):
        return f"the {finding.operation}" if finding.operation.startswith("norm") else finding.operation
    if finding.site == "attention.attend" and name in MATRIX_PRODUCTS and finding.phase == "forward":
        return _product_in_attention(finding)
    if finding.site.endswith("softmax") and name == "sum":
        return "the sum of exponentials"
    if finding.site.endswith("_path.rule") and name == "add":
        return "the sum of stream and update"
    if finding.site == "ffn" and name == "mul":
        return "the product with the gate"
    if name.startswith("_scaled_dot_product"):
        return "the fused kernel"
    if name.endswith("_backward") and name not in OPERATIONS:
        return f"the gradient of {name.removesuffix('_backward').lstrip('_').replace('_', ' ')}"
    return OPERATIONS.get(name, f"the operation {name.lstrip('_').replace('_', ' ')}")


def _product_in_attention(finding: FirstNonfinite) -> str:
    """Told by the shapes: square matrices are logits or weights, of queries by keys."""
    shapes = [contents.shape[-2:] for contents in finding.inputs]
    are_square = [len(shape) == 2 and shape[0] == shape[1] for shape in shapes]
    output = finding.output.shape[-2:]
    if are_square == [False, False] and len(output) == 2 and output[0] == output[1]:
        return "the product of queries and keys"
    if are_square == [True, False]:
        return "the product of attention weights and values"
    return "the matrix product"


def number_in_words(value: float) -> str:
    """Three digits; no sign for zero."""
    return short_exponent(f"{value + 0.0:.3g}")


def numbers_in_words(name: str, numbers: Sequence[int]) -> str:
    """ "head 1", "tokens 0 to 30", "sequences 0, 2 and 5" or "tokens 1, 4, 6, 9 and 12 more"."""
    first, last = numbers[0], numbers[-1]
    if len(numbers) == 1:
        return f"{name.removesuffix('s')} {first}"
    if last - first == len(numbers) - 1 and len(numbers) > 2:
        return f"{name} {first} to {last}"
    shown = [str(number) for number in numbers[:MOST_NUMBERS]]
    if len(numbers) > MOST_NUMBERS:
        return f"{name} {', '.join(shown)} and {len(numbers) - MOST_NUMBERS} more"
    return f"{name} {', '.join(shown[:-1])} and {shown[-1]}"
