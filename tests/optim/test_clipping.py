"""Gradient clipping against its formula and against torch's."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from normlab.optim.clipping import clip_gradients

torch.set_num_threads(2)
exactly = partial(torch.testing.assert_close, rtol=1e-15, atol=0)
GRADIENTS = [[3.0, 0.0], [[0.0, -4.0]], [12.0]]  # of norm 13


def parameters(scale: float = 1.0, dtype: torch.dtype = torch.float64) -> list[nn.Parameter]:
    made = []
    for values in GRADIENTS:
        gradient = scale * torch.tensor(values, dtype=dtype)
        made.append(nn.Parameter(torch.zeros_like(gradient)))
        made[-1].grad = gradient
    return [*made, nn.Parameter(torch.zeros(2, dtype=dtype))]  # the last has no gradient


def gradients(of: list[nn.Parameter]) -> torch.Tensor:
    return torch.cat([parameter.grad.flatten() for parameter in of if parameter.grad is not None])


@pytest.mark.parametrize("max_norm", [0.0, 1e-3, 1.0, 12.999, 13.0, 100.0])
def test_gradients_shrink_by_the_formula(max_norm: float):
    clipped, reference = parameters(), parameters()
    norm = clip_gradients(clipped, max_norm)
    assert norm.shape == ()
    assert norm.item() == 13.0
    factor = min(1.0, max_norm / (13.0 + 1e-6))
    exactly(gradients(clipped), factor * torch.tensor([3.0, 0, 0, -4, 12], dtype=torch.float64))
    torch.nn.utils.clip_grad_norm_(reference, max_norm)
    assert torch.equal(gradients(clipped), gradients(reference))


def test_a_small_gradient_is_left_as_it_is():
    unclipped = parameters(0.01)
    before = gradients(unclipped).clone()
    clip_gradients(unclipped, 1.0)
    assert torch.equal(gradients(unclipped), before)


def test_without_a_limit_the_norm_is_only_measured():
    unclipped = parameters(1e6)
    before = gradients(unclipped).clone()
    assert clip_gradients(unclipped, None).item() == 13e6
    assert torch.equal(gradients(unclipped), before)


def test_parameters_may_come_once():
    clipped = parameters()
    assert clip_gradients(iter(clipped), 1.0).item() == 13.0
    assert gradients(clipped).norm() == pytest.approx(1.0, abs=1e-6)


def test_gradients_keep_their_place():
    clipped = parameters()
    before = clipped[0].grad
    clip_gradients(clipped, 1.0)
    assert clipped[0].grad is before


def test_nothing_to_clip_has_norm_zero():
    assert clip_gradients([nn.Parameter(torch.zeros(2))], 1.0).item() == 0.0
    assert clip_gradients([], None).item() == 0.0


@pytest.mark.parametrize("max_norm", [1.0, None])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_non_finite_gradient_shows_in_the_norm(poison: float, max_norm: float | None):
    spoilt = parameters()
    assert spoilt[2].grad is not None
    spoilt[2].grad[0] = poison
    norm = clip_gradients(spoilt, max_norm).item()
    assert not math.isfinite(norm)
    assert math.isnan(norm) == math.isnan(poison)
    assert not gradients(spoilt).isfinite().all()


def test_a_norm_that_overflows_is_not_finite():
    """Every gradient is finite, their norm in float32 is not."""
    assert clip_gradients(parameters(1e38, torch.float32), None).item() == math.inf
