"""Causes of death in the backward pass, planted in a known place."""

import torch
from tests.autopsy.plants import BOTH_PRECISIONS, Unbounded, fill, found, multiply, named, part, scaled
from tests.parts import model_with
from torch import Tensor, nn

from normlab.model.loss import Objective, plain_loss


@BOTH_PRECISIONS
def test_gradient_on_its_way_back(precision: str) -> None:
    """The feed-forward of layer 0 adds nothing, but its last map is steep, and so is the loss."""
    model = model_with()
    fill(model, "layers.0.ffn.up.weight", 0.0)
    multiply(model, "layers.0.ffn.down.weight", 1e30)

    finding = found(model, precision=precision, loss=scaled(1e12))

    assert named(finding) == ("backward", 0, "ffn.down", "aten.mm", "product_overflow")
    assert finding.limit_dtype == precision


def test_gradient_through_an_elementwise_product() -> None:
    """silu(0) u = 0, but its derivative by the gate is u / 2."""
    model = model_with()
    fill(model, "layers.1.ffn.gate.weight", 0.0)
    multiply(model, "layers.1.ffn.up.weight", 1e30)

    finding = found(model, loss=scaled(1e15))

    assert named(finding) == ("backward", 1, "ffn", "aten.mul", "product_overflow")


def test_gradient_is_placed_where_its_operation_ran_though_others_without_gradient_followed() -> None:
    class Steep(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 1e30

    model = model_with()
    part(model, "layers.0.ffn_path").branch_norm = nn.Sequential(Steep(), Unbounded())
    fill(model, "layers.0.ffn.up.weight", 0.0)

    finding = found(model, loss=scaled(1e12))

    assert named(finding) == ("backward", 0, "ffn_path.branch_norm.0", "aten.mul", "product_overflow")


def test_gradient_of_the_loss() -> None:
    """The derivative of sqrt at 0."""

    def root(logits_BTV: Tensor, targets_BT: Tensor) -> Objective:
        value, cross_entropy = plain_loss(logits_BTV, targets_BT)
        return Objective((value - value.detach()).sqrt(), cross_entropy)

    assert named(found(model_with(), loss=root)) == ("backward", None, "loss", "aten.div", "zero_over_zero")


def test_sum_of_the_gradients_of_a_token() -> None:
    """Each is finite; what the operation takes is named as what it is."""

    def enlarge(module: nn.Module, args: object, output: Tensor) -> None:
        output.register_hook(lambda gradient: torch.full_like(gradient, 2e38))

    model = model_with()
    part(model, "token_embedding").register_forward_hook(enlarge)
    finding = found(model)

    assert named(finding) == ("backward", None, "token_embedding", "aten.embedding_dense_backward", "sum_overflow")
    assert finding.inputs[0].name == "gradient"
