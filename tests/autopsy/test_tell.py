"""Stories: what is told of a curve, what is not, and that of a real death."""

import math

import numpy as np
import pytest
from tests.autopsy.curves import exponential, history_of, naive_model, noisy, run_of, series

from normlab.autopsy.limits import Limits, limits_of
from normlab.autopsy.story import Crossing, Growth, Story
from normlab.autopsy.tell import tell

STABLE = Limits(softmax_overflows=False, clamp_limit=None, squares_stream=True, context_length=64)
NAIVE = Limits(softmax_overflows=True, clamp_limit=None, squares_stream=False, context_length=64)
LOGIT = "attention_logit_max/layer_2"
RMS = "activation_rms/ffn/layer_1"
FRESH = exponential(0.01, 2.0, 20)
PLATEAU = noisy(np.full(60, FRESH[-1]), 0.1)
BLOW_UP = FRESH[-1] * exponential(1.0, 2.0, 20)


def told(tag: str, values: object, limits: Limits = STABLE) -> Story:
    read = series(values)  # type: ignore[arg-type]
    return tell({tag: read}, int(read.steps[-1]) if len(read.steps) else 1, limits)


def only_growth(story: Story) -> Growth:
    (growth,) = story.growths
    return growth


def test_growth_begins_where_the_plateau_was_left_for_good() -> None:
    growth = only_growth(told(LOGIT, np.concatenate([PLATEAU, BLOW_UP]), NAIVE))
    assert growth.baseline == pytest.approx(FRESH[-1], rel=0.1)
    assert 62 <= growth.began_at <= 66
    assert growth.last == BLOW_UP[-1] and growth.last_step == 80
    assert growth.fit is not None and growth.fit.doubling_steps == pytest.approx(2.0, rel=0.1)
    assert growth.limit == pytest.approx(88.72, abs=0.01)
    expected = 61 + 2 * math.log2(88.72 / FRESH[-1])
    assert growth.crosses_at == pytest.approx(expected, abs=2.0)


def test_a_fresh_networks_growth_is_no_story_and_not_the_beginning_of_one() -> None:
    assert told(RMS, np.concatenate([FRESH, PLATEAU])).growths == ()
    grown = only_growth(told(RMS, np.concatenate([FRESH, PLATEAU, BLOW_UP])))
    assert 82 <= grown.began_at <= 86


def test_growth_through_a_whole_short_run_is_told_from_near_its_beginning() -> None:
    growth = only_growth(told(RMS, exponential(1.0, 1.0, 30)))
    assert growth.began_at <= 12
    assert growth.fit is not None and growth.fit.first_step == 1


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(np.full(50, 100.0), id="constant"),
        pytest.param(np.zeros(50), id="zeros"),
        pytest.param(np.full(50, 1e38), id="constant, huge"),
        pytest.param(1.0 + np.arange(50), id="linear"),
        pytest.param(100 * noisy(np.ones(50), 0.5), id="noise"),
        pytest.param([*(100 * noisy(np.ones(50), 0.8)), 500.0], id="noise that ends high"),
        pytest.param(np.where(np.arange(50) == 30, 1e5, 100.0), id="a spike that recovered"),
        pytest.param(np.where(np.abs(np.arange(50) - 35) < 12, 1e5, 1000.0), id="a hill"),
        pytest.param(np.concatenate([np.full(50, 1.0), exponential(1.0, 2.0, 30), [1e3]]), id="half of it lost again"),
        pytest.param(exponential(1e-9, 2.0, 50), id="far below what is any trouble"),
        pytest.param([100.0], id="one reading"),
        pytest.param([math.nan], id="NaN at step 1"),
        pytest.param([math.inf, math.nan], id="nothing finite"),
        pytest.param([], id="nothing"),
    ],
)
def test_no_growth(values: object) -> None:
    assert told(RMS, values).growths == ()


def test_a_sudden_jump_is_told_without_a_rate() -> None:
    growth = only_growth(told(LOGIT, [5.0, 4.0, 6.0, 5.0, 5.0, 5.0, 4.0, 900.0, math.nan], NAIVE))
    assert (growth.began_at, growth.last_step, growth.last) == (8, 8, 900.0)
    assert growth.fit is None and growth.crosses_at is None


def test_two_readings_are_enough_for_a_growth() -> None:
    growth = only_growth(told(RMS, [1.0, 1e10]))
    assert (growth.baseline, growth.began_at, growth.last) == (1.0, 2, 1e10)


def test_readings_that_are_not_finite_and_those_after_the_end_are_left_out() -> None:
    values = np.concatenate([PLATEAU, BLOW_UP])
    values[[3, 70]] = math.nan
    values[72] = math.inf
    story = tell({RMS: series([*values, math.inf, 1e-3, 1e-3])}, 80, STABLE)
    assert only_growth(story).last == BLOW_UP[-1]
    assert 62 <= only_growth(story).began_at <= 66


def test_the_layer_that_grew_first_comes_first() -> None:
    history = {
        f"activation_rms/ffn/layer_{layer}": series(noisy(np.concatenate([np.ones(onset), late]), 0.05, layer))
        for layer, onset in enumerate((50, 30, 40))
        for late in [exponential(1.0, 2.0, 80 - onset)]
    }
    assert [growth.tag[-1] for growth in tell(history, 80, STABLE).growths] == ["1", "2", "0"]


@pytest.mark.parametrize(
    "tag", ["attention_logit_max/layer_0/head_1", "train_loss", "lr", "weight_norm/query/layer_1", "update_norm/query"]
)
def test_other_statistics_are_not_told(tag: str) -> None:
    assert told(tag, np.concatenate([PLATEAU, 1e6 * BLOW_UP])).growths == ()


@pytest.mark.parametrize(
    "tag",
    ["grad_norm", "grad_norm/query", "update_ratio/head", "weight_norm/gains", "activation_absmax/logits", LOGIT, RMS],
)
def test_these_are(tag: str) -> None:
    assert only_growth(told(tag, np.concatenate([PLATEAU, 1e6 * BLOW_UP]))).tag == tag


def test_an_entropy_that_falls_is_told_in_its_own_numbers() -> None:
    growth = only_growth(
        told("attention_entropy/layer_0", np.concatenate([np.full(40, 3.0), exponential(3.0, -3, 30)]))
    )
    assert growth.baseline == 3.0 and growth.last < 0.01
    assert growth.fit is not None and growth.fit.doubling_steps == pytest.approx(3.0, rel=0.02)
    assert told("attention_entropy/layer_0", exponential(0.01, 3.0, 30)).growths == ()


def crossings(tag: str, values: object, limits: Limits) -> list[tuple[float, int]]:
    return [(round(found.threshold, 2), found.step) for found in told(tag, values, limits).crossings]


def test_crossings_hold_for_the_architecture() -> None:
    values = [5.0, 50.0, 5.0, 20.0, 40.0, 80.0, 100.0]
    clamped = Limits(softmax_overflows=True, clamp_limit=20.0, squares_stream=True, context_length=64)
    loosely = Limits(softmax_overflows=True, clamp_limit=50.0, squares_stream=True, context_length=64)
    assert crossings(LOGIT, values, NAIVE) == [(30.0, 5), (88.72, 7)]
    assert crossings(LOGIT, values, STABLE) == crossings(LOGIT, values, loosely) == [(30.0, 5)]
    assert crossings(LOGIT, values, clamped) == []
    assert crossings(LOGIT, [*values, 5.0], NAIVE) == []


def test_a_collapse_of_entropy_is_measured_by_uniform_attention() -> None:
    uniform = np.mean(np.log(np.arange(1, 65)))
    values = uniform * np.array([1.0, 0.5, 0.11, 0.09, 0.05])
    assert crossings("attention_entropy/layer_0", values, STABLE) == [(round(0.1 * uniform, 2), 4)]
    one_token = Limits(softmax_overflows=False, clamp_limit=None, squares_stream=True, context_length=1)
    assert crossings("attention_entropy/layer_0", [0.0, 0.0], one_token) == []


def test_a_threshold_names_the_layer_that_crossed_it_first() -> None:
    history = {
        f"attention_logit_max/layer_{layer}": series([1.0] * (9 - layer) + [50.0] * (1 + layer)) for layer in (0, 1)
    }
    (crossing,) = tell(history, 10, STABLE).crossings
    assert (crossing.tag, crossing.step) == ("attention_logit_max/layer_1", 9)


def test_relative_thresholds_start_from_the_baseline() -> None:
    values = np.concatenate([noisy(np.full(40, 2.0), 0.05), [5.0, 10.0, 19.0, 30.0, 60.0]])
    assert [step for _, step in crossings("grad_norm", values, STABLE)] == [44]
    assert crossings("grad_norm", 1e-6 * values, STABLE) == []
    assert crossings("grad_norm", 0.025 * values, STABLE) == [(1.0, 45)]  # what is up to 1 is healthy


@pytest.mark.parametrize(
    ("tail", "step"),
    [
        ([], None),
        ([math.nan], None),
        ([9.0], 61),
        ([9.0, 3.0], None),
        ([3.25], None),
        ([4.5, 9.0, 1e9, math.inf, math.nan], 61),
    ],
)
def test_where_the_loss_shows_it(tail: list[float], step: int | None) -> None:
    falling = 3.0 + 4.0 * np.exp(-np.arange(60) / 15) + 0.05 * np.random.default_rng(0).standard_normal(60)
    assert told("train_loss", [*falling, *tail]).loss_shows_at == step


@pytest.mark.parametrize("values", [[math.nan], [7.0], [7.0, math.nan], [7.0, 7.0, 7.0]])
def test_a_loss_that_was_never_bad(values: list[float]) -> None:
    assert told("train_loss", values).loss_shows_at is None


def test_crossings_before_the_loss() -> None:
    early, late = (Crossing(tag=LOGIT, threshold=30.0, meaning="", step=step) for step in (3, 9))
    story = Story(end_step=10, loss_shows_at=5, growths=(), crossings=(early, late))
    assert story.crossings_before_loss == (early,)
    unseen = Story(end_step=10, loss_shows_at=None, growths=(), crossings=(early, late))
    assert unseen.crossings_before_loss == (early, late)


def test_a_real_death_by_attention_logits_and_a_run_that_lives() -> None:
    dying = naive_model(has_norm=False)
    records = run_of(dying, lr=0.1, steps=120)
    assert not math.isfinite(records[-1].train_loss)
    story = tell(history_of(records), records[-1].step, limits_of(dying))
    assert any(growth.tag.startswith("attention_logit_max/layer_") for growth in story.growths)
    assert story.growths[0].began_at > 0.5 * story.end_step
    assert any(found.threshold == pytest.approx(88.72, abs=0.01) for found in story.crossings)
    living = naive_model(has_norm=True)
    records = run_of(living, lr=3e-3, steps=30)
    for end in range(1, 31, 3):
        story = tell(history_of(records[:end]), end, limits_of(living))
        assert (story.growths, story.loss_shows_at) == ((), None)
