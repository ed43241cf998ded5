"""Bounds on logits, queries, keys and values against their formulas, values and gradients."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from normlab.model.clamp import HardClamp, SoftClamp

exactly = partial(torch.testing.assert_close, rtol=0, atol=1e-12)
Floats = NDArray[np.float64]


def hard(x: Floats, limit: float) -> tuple[Floats, Floats]:
    return np.where(x > limit, limit, np.where(x < -limit, -limit, x)), np.where(abs(x) <= limit, 1.0, 0.0)


def soft(x: Floats, limit: float) -> tuple[Floats, Floats]:
    """tanh from exponentials, and d/dx (limit tanh(x / limit)) = 1 / cosh(x / limit)^2."""
    rise, fall = np.exp(x / limit), np.exp(-x / limit)
    return limit * (rise - fall) / (rise + fall), 4 / (rise + fall) ** 2


@pytest.mark.parametrize("limit", [0.3, 8.0, 50.0])
@pytest.mark.parametrize(("kind", "formula"), [(HardClamp, hard), (SoftClamp, soft)])
def test_values_and_gradients_follow_the_formula(
    kind: Callable[..., nn.Module], formula: Callable[[Floats, float], tuple[Floats, Floats]], limit: float
):
    x = torch.linspace(-70, 70, 1001, dtype=torch.float64, requires_grad=True)
    y = kind(limit=limit)(x)
    value, slope = formula(x.detach().numpy(), limit)
    exactly(y, torch.from_numpy(value))
    cotangent = torch.linspace(1, 2, 1001, dtype=torch.float64)
    [gradient] = torch.autograd.grad(y, x, cotangent)
    exactly(gradient, torch.from_numpy(slope) * cotangent)


def test_hard_clamp_has_gradient_one_inside_and_zero_outside():
    z = torch.tensor([-7.0, -3.001, -2.999, 0.0, 2.999, 3.001, 7.0], dtype=torch.float64, requires_grad=True)
    y = HardClamp(limit=3.0)(z)
    assert y.tolist() == [-3.0, -3.0, -2.999, 0.0, 2.999, 3.0, 3.0]
    y.sum().backward()
    assert z.grad is not None
    assert z.grad.tolist() == [0, 0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("kind", [HardClamp, SoftClamp])
def test_infinities_go_to_the_bounds_and_nan_stays(kind: Callable[..., nn.Module]):
    x = torch.tensor([torch.inf, -torch.inf, 1e38, torch.nan], requires_grad=True)
    y = kind(limit=50.0)(x)
    assert y[:3].tolist() == [50.0, -50.0, 50.0]
    assert y[3].isnan()
    [gradient] = torch.autograd.grad(y.sum(), x)
    assert gradient[:3].tolist() == [0.0, 0.0, 0.0]


def test_a_soft_clamp_keeps_small_logits_and_the_order_of_all():
    x = torch.tensor([-0.01, 0.0, 0.01], dtype=torch.float64, requires_grad=True)
    y = SoftClamp(limit=50.0)(x)
    exactly(y, x.detach(), atol=1e-9)
    [gradient] = torch.autograd.grad(y.sum(), x)
    exactly(gradient, torch.ones(3, dtype=torch.float64), atol=1e-7)
    assert (SoftClamp(limit=50.0)(torch.linspace(-400, 400, 99, dtype=torch.float64)).diff() > 0).all()


@pytest.mark.parametrize("clamp", [HardClamp(limit=30.0), SoftClamp(limit=50.0)], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_type_stays(clamp: nn.Module, dtype: torch.dtype):
    assert clamp(torch.ones(3, dtype=dtype)).dtype == dtype


@pytest.mark.parametrize("kind", [HardClamp, SoftClamp])
def test_the_limit_keeps_its_precision_through_every_conversion(kind: Callable[..., nn.Module]):
    x = torch.linspace(-1, 1, 11, dtype=torch.float64)
    expected = kind(limit=0.3)(x)
    for clamp in (kind(limit=0.3).bfloat16(), kind(limit=0.3).float(), kind(limit=0.3).half().double()):
        assert torch.equal(clamp(x), expected)
    with torch.device("meta"):
        clamp = kind(limit=0.3)
    assert torch.equal(clamp.to_empty(device="cpu")(x), expected)
    assert kind(limit=0.3).state_dict() == {}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_limit_that_is_a_tensor_gives_the_bits_of_one_that_is_a_number(dtype: torch.dtype):
    x = torch.linspace(-3, 3, 1001, dtype=torch.float64).to(dtype).requires_grad_()
    pairs = [
        (HardClamp(limit=0.7)(x), x.clamp(-0.7, 0.7)),
        (SoftClamp(limit=0.7)(x), 0.7 * (x / 0.7).tanh()),
    ]
    for given, expected in pairs:
        assert torch.equal(given, expected)
        assert torch.equal(*(torch.autograd.grad(y.sum(), x)[0] for y in (given, expected)))
