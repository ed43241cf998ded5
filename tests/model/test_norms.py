"""Norms against torch's and against their formulas, values and gradients."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from normlab.model.norms import LayerNorm, RMSNorm

WIDTH = 12
exactly = partial(torch.testing.assert_close, rtol=0, atol=1e-12)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def move_parameters(norm: nn.Module) -> None:
    """Away from where they start, where a gain of 1 and a bias of 0 would hide a mistake."""
    for seed, parameter in enumerate(norm.double().parameters(), start=7):
        nn.init.normal_(parameter, mean=1.0, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("shape", [(WIDTH,), (3, WIDTH), (2, 3, 4, WIDTH)])
@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize("kind", ["rms", "layer", "layer with bias"])
def test_values_and_gradients_equal_torchs(kind: str, eps: float, shape: tuple[int, ...], scale: float):
    if kind == "rms":
        norm = RMSNorm(WIDTH, eps=eps)
        reference = partial(functional.rms_norm, normalized_shape=[WIDTH], weight=norm.gain, eps=eps)
    else:
        norm = LayerNorm(WIDTH, eps=eps, has_bias=kind == "layer with bias")
        reference = partial(functional.layer_norm, normalized_shape=[WIDTH], weight=norm.gain, bias=norm.bias, eps=eps)
    move_parameters(norm)
    x = normal(*shape, scale=scale).requires_grad_()
    cotangent = normal(*shape, seed=1)
    y, expected = norm(x), reference(x)
    exactly(y, expected)
    inputs = [x, *norm.parameters()]
    for gradient, expected_gradient in zip(
        torch.autograd.grad(y, inputs, cotangent), torch.autograd.grad(expected, inputs, cotangent), strict=True
    ):
        exactly(gradient, expected_gradient, atol=1e-12 * expected_gradient.abs().max().item())


def test_rms_norm_by_hand():
    norm = RMSNorm(2, eps=1e-12).double()
    with torch.no_grad():
        norm.gain.copy_(torch.tensor([1.0, 10.0]))
    exactly(norm(torch.tensor([3.0, 4.0], dtype=torch.float64)), torch.tensor([3.0, 40.0]).double() / 12.5**0.5)


def test_the_scale_of_the_input_does_not_matter():
    x = normal(5, WIDTH)
    for norm in (RMSNorm(WIDTH, eps=1e-30).double(), LayerNorm(WIDTH, eps=1e-30, has_bias=False).double()):
        exactly(norm(1000 * x), norm(x))
    shifted = LayerNorm(WIDTH, eps=1e-30, has_bias=False).double()
    exactly(shifted(x + 5), shifted(x))


def test_a_row_of_zeros_stays_zero_with_a_finite_gradient():
    for norm in (RMSNorm(WIDTH, eps=1e-5), LayerNorm(WIDTH, eps=1e-5, has_bias=False)):
        x = torch.zeros(2, WIDTH, requires_grad=True)
        y = norm(x)
        y.sum().backward()
        assert (y == 0).all()
        assert x.grad is not None
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("norm", [RMSNorm(WIDTH, eps=1e-5), LayerNorm(WIDTH, eps=1e-5, has_bias=True)], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_statistics_are_taken_in_float32(norm: nn.Module, dtype: torch.dtype):
    """Squares of 300 and more overflow float16; the result differs from float32's by one rounding alone."""
    x = normal(4, WIDTH, scale=1000.0).to(dtype)
    y = norm(x)
    assert y.dtype == dtype
    assert torch.equal(y, norm(x.float()).to(dtype))
    assert y.isfinite().all()


def test_parameters_start_at_the_identity():
    assert torch.equal(RMSNorm(3, eps=1e-5).gain, torch.ones(3))
    with_bias, without = LayerNorm(3, eps=1e-5, has_bias=True), LayerNorm(3, eps=1e-5, has_bias=False)
    assert torch.equal(with_bias.gain, torch.ones(3))
    assert with_bias.bias is not None
    assert torch.equal(with_bias.bias, torch.zeros(3))
    assert [name for name, _ in without.named_parameters()] == ["gain"]
