"""Overflows after finite gradients: in their norm, in moments, in weights."""

import math

import pytest
import torch
from tests.autopsy.plants import BOTH_PRECISIONS, found, named, scaled, with_moments
from tests.parts import model_with
from torch import nn, optim


@BOTH_PRECISIONS
def test_norm_of_finite_gradients(precision: str) -> None:
    finding = found(model_with(), precision=precision, loss=scaled(1e25))

    assert (finding.phase, finding.operation, finding.kind) == (
        "optimizer",
        "norm of the gradients",
        "product_overflow",
    )
    assert finding.inputs[0].num_nonfinite == 0
    assert finding.output.num_nonfinite == 1


@BOTH_PRECISIONS
@pytest.mark.parametrize("grad_clip", [None, 1.0])
def test_update_of_one_weight(precision: str, grad_clip: float | None) -> None:
    """A first moment that dwarfs the root of the second: other weights move by less than the largest float32."""
    model = model_with()
    optimizer = with_moments(model)
    state = optimizer.state[model.get_parameter("layers.1.ffn.up.weight")]
    state["exp_avg"].fill_(1.0)

    finding = found(model, precision=precision, optimizer=optimizer, lr=1e37, grad_clip=grad_clip)

    assert named(finding) == ("optimizer", 1, "ffn.up.weight", "AdamW.step", "update_overflow")
    assert finding.limit_dtype == "float32"
    assert [contents.name for contents in finding.inputs] == ["weight", "gradient", "exp_avg", "exp_avg_sq", "step"]
    by_name = {contents.name: contents for contents in finding.inputs}
    assert by_name["weight"].num_nonfinite == 0
    assert by_name["exp_avg"].smallest == pytest.approx(0.9, abs=0.2)
    assert finding.output.name == "weight"


def fill_gradient(model: nn.Module, name: str, value: float) -> None:
    gradient = model.get_parameter(name).grad
    assert gradient is not None
    gradient.fill_(value)


def test_second_moment() -> None:
    """v = 0.95 v + 0.05 g^2 with g^2 beyond float32. Without the check the weight stands still for ever: m / inf."""
    model = model_with()
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95))
    model.get_parameter("head.weight").register_hook(lambda gradient: torch.zeros_like(gradient))
    optimizer.register_step_pre_hook(lambda *_: fill_gradient(model, "layers.0.ffn.gate.weight", 1e20))

    finding = found(model, optimizer=optimizer)

    assert named(finding) == ("optimizer", 0, "ffn.gate.weight", "AdamW.step", "update_overflow")
    assert finding.output.name == "exp_avg_sq"


def test_moment_that_was_bad_before() -> None:
    model = model_with()
    optimizer = with_moments(model)
    optimizer.state[model.get_parameter("layers.1.attention.key.weight")]["exp_avg"][3, 4] = math.nan

    finding = found(model, optimizer=optimizer)

    assert named(finding) == ("optimizer", 1, "attention.key.weight", "AdamW.step", "bad_input")
    assert finding.elements.indices == ((3, 4),)
