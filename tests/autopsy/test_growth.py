"""Exponential fits: found where growth is exponential, and over no more than that; nothing else is taken for it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tests.autopsy.curves import exponential, noisy, series

from normlab.autopsy.growth import Criteria, exponential_fit
from normlab.autopsy.story import Series

CRITERIA = Criteria(min_readings=6, min_r_squared=0.9, min_doublings=2.0, steadiness=0.5)
N = 40
RAMP = np.arange(N, dtype=np.float64)


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("start", [1e-30, 1.0, 1e30])
def test_an_exact_exponential_is_found_whole(start: float, every: int) -> None:
    fit = exponential_fit(series(exponential(start, 5.0, N), every), CRITERIA)
    assert fit is not None
    assert fit.doubling_steps == pytest.approx(5.0 * every)
    assert fit.rate == pytest.approx(math.log(2) / (5.0 * every))
    assert fit.r_squared == pytest.approx(1.0)
    assert (fit.first_step, fit.last_step) == (1, 1 + every * (N - 1))
    assert fit.value_at_last == pytest.approx(start * 2 ** ((N - 1) / 5))


def test_the_step_at_which_a_limit_is_met() -> None:
    fit = exponential_fit(series(exponential(1.0, 5.0, N)), CRITERIA)
    assert fit is not None
    assert fit.crosses_at(2.0**10) == pytest.approx(51.0)
    assert fit.crosses_at(3.4e38) == pytest.approx(1 + 5 * math.log2(3.4e38))


@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_the_fit_a_little(seed: int) -> None:
    fit = exponential_fit(series(noisy(exponential(1.0, 5.0, N), 0.2, seed)), CRITERIA)
    assert fit is not None
    assert fit.doubling_steps == pytest.approx(5.0, rel=0.15)


def test_it_is_the_least_squares_line_of_the_logarithms() -> None:
    values = noisy(exponential(1.0, 5.0, N), 0.2)
    fit = exponential_fit(series(values), CRITERIA)
    assert fit is not None and fit.first_step == 1
    slope, intercept = np.polyfit(np.arange(1, N + 1), np.log(values), 1)
    assert fit.rate == pytest.approx(slope)
    assert fit.value_at_last == pytest.approx(math.exp(intercept + slope * N))
    assert fit.r_squared == pytest.approx(np.corrcoef(np.arange(N), np.log(values))[0, 1] ** 2)


def test_a_plateau_before_the_growth_stays_out_of_the_fit() -> None:
    values = noisy(np.concatenate([np.full(60, 2.0), 2.0 * exponential(1.0, 3.0, 30)]), 0.05)
    fit = exponential_fit(series(values), CRITERIA)
    assert fit is not None
    assert 50 <= fit.first_step <= 65
    assert fit.doubling_steps == pytest.approx(3.0, rel=0.15)


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.full(N, 3.0), id="constant"),
        pytest.param(np.zeros(N), id="zeros"),
        pytest.param(np.full(N, 1e38), id="constant, huge"),
        pytest.param(noisy(np.full(N, 3.0), 0.3), id="noise"),
        pytest.param(1 + RAMP, id="linear"),
        pytest.param((1 + RAMP) ** 0.5, id="root"),
        pytest.param(np.where(RAMP < 30, 1.0, 100.0), id="step"),
        pytest.param(np.where(RAMP == N - 1, 1e6, 1.0), id="spike at the end"),
        pytest.param(np.where(RAMP == 20, 1e6, 1.0), id="spike"),
        pytest.param(exponential(1.0, -5.0, N), id="decay"),
        pytest.param(np.minimum(exponential(1.0, 3.0, N), 30.0), id="growth that has ended"),
        pytest.param(exponential(1.0, 100.0, N), id="too few doublings"),
        pytest.param(exponential(1.0, 0.5, 5), id="too few readings"),
        pytest.param([7.0], id="one reading"),
        pytest.param([], id="none"),
        pytest.param([math.nan], id="NaN at step 1"),
        pytest.param([math.nan] * N, id="NaN"),
        pytest.param([math.inf] * N, id="infinity"),
        pytest.param(-exponential(1.0, 5.0, N), id="below zero"),
    ],
)
def test_what_is_no_exponential_growth_has_no_fit(values: np.ndarray) -> None:
    assert exponential_fit(series(values), CRITERIA) is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 0.0, -1.0])
def test_what_has_no_logarithm_is_left_out(bad: float) -> None:
    values = exponential(1.0, 5.0, N)
    values[[0, 13, 14, N - 1]] = bad
    fit = exponential_fit(series(values), CRITERIA)
    assert fit is not None
    assert fit.doubling_steps == pytest.approx(5.0)
    assert (fit.first_step, fit.last_step) == (2, N - 1)


@given(arrays(np.float64, st.integers(0, 30), elements=st.floats(width=64, allow_nan=True, allow_infinity=True)))
def test_a_fit_is_finite_and_grows_whatever_was_read(values: np.ndarray) -> None:
    fit = exponential_fit(Series(np.arange(len(values), dtype=np.int64), values), CRITERIA)
    if fit is not None:
        assert all(math.isfinite(number) for number in vars(fit).values())
        assert fit.rate > 0 and fit.value_at_last > 0
        assert CRITERIA.min_r_squared <= fit.r_squared <= 1 + 1e-9
