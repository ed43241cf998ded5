"""Whether all numbers are finite, also where a norm of them is not."""

import math

import pytest
import torch

from normlab.train.finite import are_finite


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", [0, 1])
def test_one_bad_number_among_many_is_found(value: float, where: int) -> None:
    tensors = [torch.ones(3, 5), torch.ones(7)]
    assert are_finite(tensors)
    tensors[where].view(-1)[2] = value
    assert not are_finite(tensors)


def test_finite_numbers_whose_norm_overflows_are_finite() -> None:
    assert are_finite([torch.full((4,), 3e38), torch.ones(2)])


def test_two_infinities_that_would_cancel_are_found() -> None:
    assert not are_finite([torch.tensor([math.inf, -math.inf])])


def test_nothing_and_whole_numbers_are_finite() -> None:
    assert are_finite([])
    assert are_finite([torch.tensor([1, 2]), torch.tensor(True)])
