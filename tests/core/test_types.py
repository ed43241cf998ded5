"""Bounds admit finite numbers within them, ends included unless open."""

import math

import pytest

from normlab.core.types import Bounds


@pytest.mark.parametrize(
    ("bounds", "admitted", "refused"),
    [
        (Bounds(low=0), [0, 1e300], [-1e-300, math.inf, math.nan]),
        (Bounds(low=0, open_low=True), [5e-324], [0, -1, math.nan]),
        (Bounds(low=0, high=1), [0, 0.5, 1], [-0.1, 1.1, math.nan]),
        (Bounds(low=0, high=1, open_high=True), [0, 0.999], [1, math.nan]),
        (Bounds(), [-1e300, 1e300], [-math.inf, math.inf, math.nan]),
    ],
)
def test_what_bounds_admit(bounds: Bounds, admitted: list[float], refused: list[float]) -> None:
    assert [value for value in admitted if not bounds.admits(value)] == []
    assert [value for value in refused if bounds.admits(value)] == []


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (Bounds(low=1), "at least 1"),
        (Bounds(low=0, open_low=True), "greater than 0"),
        (Bounds(low=0, high=1), "in [0, 1]"),
        (Bounds(low=0, high=1, open_low=True, open_high=True), "in (0, 1)"),
    ],
)
def test_bounds_in_words(bounds: Bounds, words: str) -> None:
    assert str(bounds) == words
