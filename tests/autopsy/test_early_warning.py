"""Early warnings: in time, once, withdrawn, rebuilt from what was written, and none where nothing grows."""

import json
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from tests.autopsy.curves import exponential, naive_model, noisy, run_of

from normlab.autopsy.early_warning import KEPT_READINGS, EarlyWarning, Forecast
from normlab.autopsy.limits import LARGEST, LARGEST_SQUARED, Limits, limits_of
from normlab.core.records import StepRecord, encode_json

NAIVE = Limits(softmax_overflows=True, clamp_limit=None, squares_stream=True, context_length=64)
STABLE = Limits(softmax_overflows=False, clamp_limit=None, squares_stream=True, context_length=64)
LOGIT = "attention_logit_max/layer_3"


def record(step: int, telemetry: Mapping[str, float], grad_norm: float = 1.0) -> StepRecord:
    return StepRecord(
        step=step, tokens=0, seconds=0.0, lr=0.1, train_loss=3.0, grad_norm=grad_norm, telemetry=telemetry
    )


def forecasts(values: Sequence[float] | np.ndarray, tag: str = LOGIT, limits: Limits = NAIVE) -> list[Forecast]:
    """What is said of a statistic that is read at steps 1, 2, ..."""
    warning = EarlyWarning(limits)
    return [found for step, value in enumerate(values, 1) for found in warning.observe(record(step, {tag: value}))]


def test_logits_that_double_are_forecast_once_and_in_words() -> None:
    values = 3.0 * exponential(1.0, 35.0, 170)  # reach 88.7 at step 172.02
    (forecast,) = forecasts(values)
    assert (forecast.tag, forecast.layer) == (LOGIT, 3)
    assert forecast.limit == pytest.approx(88.72, abs=0.01)
    assert forecast.crosses_at == 173
    assert forecast.doubling_steps == pytest.approx(35.0)
    remaining = 173 - forecast.step
    assert remaining >= 50
    assert str(forecast) == (
        f"the largest attention logit of layer 3 will pass the exponential's limit (88.7) in about {remaining} steps "
        "(doubling every 35 steps)"
    )


@pytest.mark.parametrize("seed", range(5))
def test_noise_does_not_repeat_it(seed: int) -> None:
    found = forecasts(noisy(3.0 * exponential(1.0, 20.0, 95), 0.1, seed))
    assert 1 <= len(found) <= 2
    assert abs(found[0].crosses_at - 98) < 20


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.full(100, 50.0), id="constant"),
        pytest.param(np.zeros(100), id="zeros"),
        pytest.param(np.linspace(1.0, 80.0, 100), id="linear"),
        pytest.param(noisy(np.full(100, 40.0), 0.3), id="noise"),
        pytest.param(np.minimum(exponential(1e-4, 2.0, 100), 28.0), id="a fresh network's growth"),
        pytest.param(np.where(np.arange(100) == 60, 80.0, 5.0), id="spike"),
        pytest.param(np.where(np.arange(100) > 60, 80.0, 5.0), id="step"),
        pytest.param(exponential(100.0, 5.0, 100), id="beyond the limit from the start"),
        pytest.param(exponential(31.0, 5.0, 7), id="too few readings"),
        pytest.param(-exponential(1.0, 5.0, 50), id="below zero"),
        pytest.param([math.nan] * 50, id="NaN"),
        pytest.param([40.0], id="one reading"),
    ],
)
def test_nothing_to_warn_of(values: np.ndarray) -> None:
    assert forecasts(values) == []


def test_only_limits_of_the_architecture_are_forecast() -> None:
    values = 3.0 * exponential(1.0, 35.0, 165)
    assert forecasts(values, limits=STABLE) == []
    assert forecasts(values, tag=LOGIT + "/head_0") == []
    assert forecasts(values, tag="activation_rms/ffn/layer_0") == []
    assert forecasts(values, tag="weight_norm/query") == []
    assert len(forecasts(values, limits=Limits(**{**vars(NAIVE), "clamp_limit": 50.0}))) == 0
    assert len(forecasts(values, limits=Limits(**{**vars(NAIVE), "clamp_limit": 100.0}))) == 1


def test_limits_of_float32() -> None:
    values = exponential(1.0, 1.0, 60)
    (stream,) = forecasts(values, "activation_absmax/residual/layer_0")
    assert stream.limit == LARGEST_SQUARED and stream.crosses_at == 1 + math.ceil(math.log2(LARGEST_SQUARED))
    assert stream.crosses_at - stream.step <= 2 * (stream.step - 1)
    (unsquared,) = forecasts(values, stream.tag, Limits(**{**vars(NAIVE), "squares_stream": False}))
    assert unsquared.limit == LARGEST
    (ffn,) = forecasts(values, "activation_absmax/ffn/layer_0")
    assert ffn.limit == LARGEST and ffn.crosses_at == 1 + math.ceil(math.log2(LARGEST))
    warning = EarlyWarning(STABLE)
    (total,) = [found for step in range(1, 61) for found in warning.observe(record(step, {}, grad_norm=2.0**step))]
    assert (total.tag, total.layer, total.limit) == ("grad_norm", None, LARGEST_SQUARED)


def test_a_forecast_that_changes_a_lot_is_given_again() -> None:
    fast = exponential(1.0, 2 / 3, 28)
    half_as_fast = fast[-1] * exponential(1.0, 4 / 3, 32)[1:]
    first, second = forecasts([*fast, *half_as_fast], "activation_absmax/residual/layer_0")
    assert first.crosses_at == 44  # 64 doublings
    assert 55 <= second.crosses_at <= 60


def test_a_forecast_is_withdrawn_and_may_come_again() -> None:
    values = exponential(1.0, 1.0, 60)
    values[40:46] = 1.0
    first, second = forecasts(values, "activation_absmax/residual/layer_0")
    assert first.step < 40 and second.step > 46
    assert first.crosses_at == second.crosses_at


def test_a_reading_that_is_not_finite_starts_it_anew() -> None:
    rise = 4.0 * exponential(1.0, 4.0, 15)
    assert [found.step for found in forecasts([*rise, math.nan, *rise])] == [13, 29]


def test_a_run_that_went_back_is_read_from_there() -> None:
    rise = 4.0 * exponential(1.0, 4.0, 15)
    warning = EarlyWarning(NAIVE)
    steps = [*range(1, 31), *range(5, 16)]
    values = [*rise[:4], *[20.0] * 26, *rise[4:]]
    found = [
        f for step, value in zip(steps, values, strict=True) for f in warning.observe(record(step, {LOGIT: value}))
    ]
    assert found == forecasts(rise) != []


def test_resumed_from_its_records_it_says_what_it_would_have_said() -> None:
    values = noisy(3.0 * exponential(1.0, 12.0, 57), 0.15)
    values[20] = math.nan
    records = [record(step, {LOGIT: value}, grad_norm=value) for step, value in enumerate(values.tolist(), 1)]
    whole = EarlyWarning(NAIVE)
    said = [whole.observe(one) for one in records]
    assert sum(map(len, said)) >= 1
    for cut in range(1, len(records), 5):
        resumed = EarlyWarning(NAIVE)
        for one in records[:cut]:
            resumed.remember(json.loads(encode_json({**one.as_dict(), "notes": ["some words"]})))
        assert [resumed.observe(one) for one in records[cut:]] == said[cut:]


def test_it_forgets_what_is_long_past() -> None:
    slow = 4.0 * exponential(1.0, KEPT_READINGS / 1.9, 2 * KEPT_READINGS)
    assert slow[-1] > 50.0
    assert forecasts(slow) == []
    assert len(forecasts(slow[::2])) == 1


def test_a_real_death_is_seen_coming_and_a_run_that_lives_gives_no_alarm() -> None:
    dying = naive_model(has_norm=True)
    records = run_of(dying, lr=0.1, steps=120)
    warning = EarlyWarning(limits_of(dying))
    found = [forecast for one in records for forecast in warning.observe(one)]
    assert not math.isfinite(records[-1].grad_norm)
    assert found[0].tag.startswith("attention_logit_max/layer_")
    assert found[0].step < found[0].crosses_at < records[-1].step
    living = naive_model(has_norm=True)
    warning = EarlyWarning(limits_of(living))
    assert [forecast for one in run_of(living, lr=3e-3, steps=30) for forecast in warning.observe(one)] == []
