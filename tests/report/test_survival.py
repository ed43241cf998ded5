"""Kaplan-Meier against a textbook, and the shares' interval against its closed form."""

import math

import pytest
from tests.report.made import dead_run, made_run

from normlab.report.outcomes import outcomes_of
from normlab.report.survival import share_interval, survival_curve


def test_the_curve_is_that_of_the_textbook() -> None:
    """Gehan's 21 patients on 6-MP, with Greenwood's errors: Collett, Modelling Survival Data, and Cox & Oakes 1984."""
    died = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    left = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    curve = survival_curve([*map(dead_run, died), *(made_run(outcome="interrupted", steps=step) for step in left)])
    at = dict(zip(curve.steps, curve.alive, strict=True))
    expected = {0: 1, 6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448, 35: 0.448}
    assert {step: round(at[step], 3) for step in expected} == expected
    assert (curve.num_runs, curve.num_dead, curve.censored) == (21, 9, left)


def test_the_interval_is_greenwoods_on_the_log_minus_log_scale() -> None:
    """S(6) = 18/21 with d/(n(n-d)) = 3/(21*18): the bounds are S ** exp(+-1.96 sd / ln S)."""
    curve = survival_curve([*[dead_run(6)] * 3, *[made_run(steps=40)] * 18])
    variance = 3 / (21 * 18)
    spread = 1.959964 * math.sqrt(variance) / abs(math.log(18 / 21))
    index = list(curve.steps).index(6)
    assert curve.low[index] == pytest.approx((18 / 21) ** math.exp(spread), rel=1e-5)
    assert curve.high[index] == pytest.approx((18 / 21) ** math.exp(-spread), rel=1e-5)


def test_no_interval_is_made_up_where_none_or_all_died() -> None:
    nobody, everybody = survival_curve([made_run(), made_run(seed=1)]), survival_curve([dead_run(3), dead_run(5)])
    assert nobody.alive[-1] == 1 and math.isnan(nobody.low[-1])
    assert everybody.alive[-1] == 0 and math.isnan(everybody.high[-1])


def test_a_run_cut_short_before_a_death_is_no_longer_at_risk() -> None:
    curve = survival_curve([made_run(outcome=None, steps=2), dead_run(5), made_run(steps=9)])
    assert curve.alive[list(curve.steps).index(5)] == pytest.approx(0.5)


def test_a_share_of_none_of_three_reaches_up_to_the_rule_of_three() -> None:
    """With no success of n the exact bound is 1 - (alpha / 2) ** (1 / n)."""
    assert share_interval(0, 3) == pytest.approx((0, 1 - 0.025 ** (1 / 3)))
    assert share_interval(0, 0) is None


def test_outcomes_are_counted_with_their_causes() -> None:
    runs = [made_run(), dead_run(4), dead_run(8), made_run(outcome=None), made_run(outcome="diverged", steps=30)]
    counted = outcomes_of(runs)
    assert counted.by_outcome == {"completed": 1, "diverged": 1, "nonfinite": 2, "not ended": 1}
    assert counted.causes == {
        "an exponential overflowed in the attention softmax of layer 1": 2,
        "the loss left for good": 1,
    }
    assert counted.death_steps == (4, 8, 30)
    assert counted.survived_interval == share_interval(1, 4)
