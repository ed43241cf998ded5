"""Causes of death in the forward pass, planted in a known place of a small model: each is named with place and kind.

Sequences are 3, tokens 7, heads 2, unless a test says otherwise.
"""

import math
from functools import partial

import pytest
import torch
from tests.autopsy.plants import (
    BOTH_PRECISIONS,
    LARGEST_FLOAT32,
    batch,
    fill,
    found,
    multiply,
    naive_model,
    named,
    part,
    scaled,
)
from tests.parts import attention_with, model_with
from torch import Tensor, nn
from torch.nn import functional

from normlab.autopsy.axes import Sizes
from normlab.autopsy.places import Places
from normlab.autopsy.watch import Watch
from normlab.model.loss import z_loss
from normlab.model.norms import L2Norm, LayerNorm, RMSNorm
from normlab.model.placement import Placement
from normlab.model.residual import shared_scalar
from normlab.model.saturating_norms import DynamicTanh


class MaskedThroughout(nn.Module):
    """A mask that hides every key from the query of one token."""

    def __init__(self, token: int):
        super().__init__()
        self.token = token

    def forward(self, logits_BHTT: Tensor) -> Tensor:
        is_hidden_T = torch.arange(logits_BHTT.shape[-2]) == self.token
        return logits_BHTT.masked_fill(is_hidden_T[:, None], -math.inf)


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square()


@BOTH_PRECISIONS
def test_exponential_of_one_head(precision: str) -> None:
    model = naive_model()
    for projection in ("query", "key"):
        multiply(model, f"layers.1.attention.{projection}.weight", 30.0, slice(8, 16))

    finding = found(model, precision=precision)

    assert named(finding) == ("forward", 1, "attention.attend.softmax", "aten.exp", "exp_overflow")
    assert finding.limit_dtype == "float32"
    assert finding.elements.heads == (1,)
    assert len(finding.inputs) == 1
    assert finding.inputs[0].largest is not None and finding.inputs[0].largest > math.log(LARGEST_FLOAT32)
    assert finding.inputs[0].num_nonfinite == 3 * 2 * 21, "the causal mask's"
    assert finding.output.num_nonfinite == finding.elements.number > 0
    _, head, query, key = finding.elements.indices[0]
    assert head == 1 and key <= query
    assert query in (finding.elements.tokens or ())


@BOTH_PRECISIONS
def test_product_in_feed_forward(precision: str) -> None:
    model = model_with()
    multiply(model, "layers.0.ffn.up.weight", 1e10)
    multiply(model, "layers.0.ffn.down.weight", 1e30)

    finding = found(model, precision=precision)

    assert named(finding) == ("forward", 0, "ffn.down", "aten.mm", "product_overflow")
    assert finding.limit_dtype == precision
    assert [contents.dtype for contents in finding.inputs] == [precision, precision]
    assert all(contents.num_nonfinite == 0 for contents in finding.inputs)
    assert finding.output.shape == (21, 16)
    assert finding.inputs[1].name == "layers.0.ffn.down.weight", "in the type that it was copied to"
    weight = model.get_parameter("layers.0.ffn.down.weight").to(getattr(torch, precision))
    assert (finding.inputs[1].smallest, finding.inputs[1].largest) == (weight.min().item(), weight.max().item())


@BOTH_PRECISIONS
def test_product_of_queries_and_keys_in_the_fused_kernel(precision: str) -> None:
    model = model_with()
    multiply(model, "layers.1.attention.query.weight", 1e20, slice(8))
    multiply(model, "layers.1.attention.key.weight", 1e20, slice(8))

    finding = found(model, precision=precision)

    assert named(finding) == ("forward", 1, "attention.attend", "aten.bmm", "product_overflow")
    assert finding.limit_dtype == precision
    assert finding.output.shape == (6, 7, 7)
    assert finding.elements.heads == (0,)
    assert finding.elements.sequences == (0, 1, 2)


def test_what_the_fused_kernel_takes_is_named() -> None:
    model = model_with()
    large = torch.full((1, 2, 7, 8), 1e20)
    watch = Watch(Places(model), Sizes(1, 7, 2, set()), {})
    with watch:
        functional.scaled_dot_product_attention(large, large, large, is_causal=True)
    assert watch.found is not None
    assert [contents.name for contents in watch.found.inputs] == ["query", "key", "value"]


def test_elementwise_product() -> None:
    model = model_with()
    multiply(model, "layers.1.ffn.up.weight", 1e25)
    multiply(model, "layers.1.ffn.gate.weight", 1e25)

    assert named(found(model)) == ("forward", 1, "ffn", "aten.mul", "product_overflow")


@BOTH_PRECISIONS
def test_row_masked_throughout(precision: str) -> None:
    model = model_with()
    clamped = model_with(attention=attention_with(clamp=MaskedThroughout(4)))
    model.layers[1] = clamped.layers[1]

    finding = found(model, precision=precision)

    assert named(finding) == ("forward", 1, "attention.attend.softmax", "aten._softmax", "inf_minus_inf")
    assert finding.limit_dtype is None, "no number was too large"
    assert finding.elements.tokens == (4,)
    assert finding.elements.heads == (0, 1)


@BOTH_PRECISIONS
def test_infinities_of_both_signs_within_a_mean(precision: str) -> None:
    """However many partial sums a mean is made of, each has terms of one sign only."""
    placement = Placement(slots=["input"], sites=["embedding"])
    model = model_with(width=128, norm=partial(LayerNorm, eps=1e-5, has_bias=True), placement=placement)
    fill(model, "token_embedding.weight", 3e38)
    with torch.no_grad():
        model.token_embedding.weight[:, 1::2] *= -1

    finding = found(model, precision=precision)

    assert named(finding) == ("forward", None, "embedding_norm", "aten.mean", "inf_minus_inf")
    assert finding.limit_dtype == "float32"


def test_sum_in_a_residual_path() -> None:
    """3.3e38 + 8e37; the norm, a tanh, bears any stream."""
    model = model_with(norm=partial(DynamicTanh, initial_alpha=1.0, has_bias=False))
    fill(model, "token_embedding.weight", 3.3e38)
    with torch.no_grad():
        ffn = part(model, "layers.0.ffn")
        ffn.gate.weight[0], ffn.up.weight[0] = 0.5, 1 / 16
        ffn.down.weight.zero_()[:, 0] = 1e37

    finding = found(model)

    assert named(finding) == ("forward", 0, "ffn_path.rule", "aten.add", "sum_overflow")
    assert finding.limit_dtype == "float32"
    assert finding.output.smallest is None
    assert finding.elements.number == 3 * 7 * 16


@BOTH_PRECISIONS
@pytest.mark.parametrize(("norm", "operation"), [(RMSNorm, "aten.rsqrt"), (L2Norm, "aten.div")])
def test_row_of_zeros_in_a_norm_without_eps(precision: str, norm: type, operation: str) -> None:
    model = model_with(norm=partial(norm, eps=0.0))
    with torch.no_grad():
        model.token_embedding.weight[5] = 0.0
    inputs_BT, targets_BT = batch()
    inputs_BT[1, 2] = inputs_BT[1, 6] = 5

    finding = found(model, precision=precision, tokens=(inputs_BT, targets_BT))

    assert named(finding) == ("forward", 0, "attention_path.input_norm", operation, "zero_over_zero")
    assert finding.limit_dtype is None
    assert (finding.elements.sequences, finding.elements.tokens) == ((1,), (2, 6))
    assert finding.elements.heads is None


def test_exponentials_that_all_vanish() -> None:
    """One token, so that a query sees nothing but its own key, and that is its opposite."""
    model = naive_model()
    with torch.no_grad():
        attention = part(model, "layers.0.attention")
        attention.query.weight[8:] *= 30
        attention.key.weight[8:] = -attention.query.weight[8:]

    finding = found(model, tokens=batch(num_tokens=1))

    assert named(finding) == ("forward", 0, "attention.attend.softmax", "aten.div", "zero_over_zero")
    assert finding.elements.heads == (1,)


@BOTH_PRECISIONS
def test_loss(precision: str) -> None:
    model = model_with()
    multiply(model, "head.weight", 1e21)

    finding = found(model, precision=precision, loss=partial(z_loss, coefficient=1e-4))

    assert named(finding) == ("forward", None, "loss", "aten.pow", "loss_overflow")
    assert finding.limit_dtype == "float32"


def test_part_that_layers_share_is_named_with_the_layer_that_runs_it() -> None:
    model = model_with(attention=attention_with(clip_qkv=Square()))
    assert part(model, "layers.0.attention.clip_qkv") is part(model, "layers.1.attention.clip_qkv")
    multiply(model, "layers.1.attention.query.weight", 1e30)

    assert named(found(model)) == ("forward", 1, "attention.clip_qkv", "aten.pow", "product_overflow")


def test_part_that_sublayers_share_is_named_with_the_sublayer_that_runs_it() -> None:
    model = model_with(residual=partial(shared_scalar, initial=3e38))
    for layer in range(2):
        fill(model, f"layers.{layer}.attention.out.weight", 0.0)
    multiply(model, "layers.0.ffn.down.weight", 100.0)

    assert named(found(model)) == ("forward", 0, "ffn_path.rule", "aten.mul", "product_overflow")


def test_operation_in_place_is_described_by_what_it_read() -> None:
    class ExponentialInPlace(nn.Module):
        def forward(self, logits_BHTT: Tensor) -> Tensor:
            return (1 * logits_BHTT).exp_()

    model = model_with(attention=attention_with(clamp=ExponentialInPlace()))
    multiply(model, "layers.0.attention.query.weight", 1e3)

    finding = found(model)

    assert named(finding) == ("forward", 0, "attention.attend.clamp", "aten.exp_", "exp_overflow")
    assert finding.inputs[0].num_nonfinite == 0
    assert finding.output.num_nonfinite > 0


def test_overflow_beside_the_mask() -> None:
    """An infinity is new where the mask had none, though it has the mask's sign."""

    class SteepAfterTheMask(nn.Module):
        def forward(self, logits_BHTT: Tensor) -> Tensor:
            is_future = torch.ones(logits_BHTT.shape[-2:], dtype=torch.bool).triu(1)
            return (-2 - logits_BHTT.abs()).masked_fill(is_future, -math.inf) * 3e38

    finding = found(model_with(attention=attention_with(clamp=SteepAfterTheMask())))

    assert named(finding) == ("forward", 0, "attention.attend.clamp", "aten.mul", "product_overflow")
    assert finding.elements.number == 3 * 2 * (7 * 8 // 2)


def test_sum_that_is_not_of_exponentials() -> None:
    class BySum(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / x.sum(-1, keepdim=True)

    model = model_with(norm=lambda width: BySum())
    fill(model, "token_embedding.weight", 3e38)

    finding = found(model, loss=scaled(1e39))

    assert named(finding) == ("forward", 0, "attention_path.input_norm", "aten.sum", "sum_overflow")
