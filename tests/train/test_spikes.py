"""Loss spikes, on loss curves made for them."""

import json
import math
import random

import pytest

from normlab.core.records import encode_json
from normlab.train.spikes import Spike, SpikeCounter, SpikeCriterion, SpikeHistory
from normlab.train.state import RunState

CRITERION = SpikeCriterion(deviations=6.0, smoothing=0.95)


def noisy(level: float, num_steps: int, seed: int = 0) -> list[float]:
    generator = random.Random(seed)
    return [level + generator.gauss(0, 0.05) for _ in range(num_steps)]


def spikes_of(losses: list[float], history: SpikeHistory | None = None, first_step: int = 1) -> list[Spike]:
    counter = SpikeCounter(CRITERION, SpikeHistory() if history is None else history)
    for step, loss in enumerate(losses, start=first_step):
        counter.observe(step, loss)
    return counter.history.recovered


def test_a_spike_that_recovers_counts_once_with_its_steps_peak_and_level() -> None:
    (spike,) = spikes_of([*noisy(3.0, 100), 4.0, 6.5, 5.0, *noisy(3.0, 50)])
    assert (spike.first_step, spike.recovered_step, spike.peak) == (101, 104, 6.5)
    assert spike.before == pytest.approx(3.0, abs=0.05)
    assert str(spike) == "a loss spike, from 2.99 to 6.5, began at step 101 and has recovered at step 104"


def test_a_loss_that_does_not_come_back_is_no_spike() -> None:
    assert spikes_of([*noisy(3.0, 100), *noisy(5.0, 500)]) == []


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_a_falling_loss_are_no_spikes(seed: int) -> None:
    falling = [3.0 + 4.0 * math.exp(-step / 50) + noise for step, noise in enumerate(noisy(0.0, 2000, seed))]
    assert spikes_of(falling) == []


def test_two_spikes_are_two_and_the_first_does_not_hide_the_second() -> None:
    curve = [*noisy(3.0, 100), *[9.0] * 20, *noisy(3.0, 10), 4.0, *noisy(3.0, 10)]
    assert [spike.first_step for spike in spikes_of(curve)] == [101, 131]


def test_nothing_is_a_spike_before_there_is_a_course() -> None:
    assert spikes_of([3.0, 9.0, 3.0, 9.0, 3.0]) == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_passed_over(value: float) -> None:
    curve = [*noisy(3.0, 100), 6.0, *noisy(3.0, 10)]
    with_holes = [*curve[:50], value, *curve[50:100], 6.0, value, *curve[101:]]
    (spike,) = spikes_of(with_holes)
    assert (spike.first_step, spike.recovered_step, spike.peak) == (102, 104, 6.0)


@pytest.mark.parametrize("cut", [0, 1, 100, 102, 110])
def test_a_history_that_went_through_json_counts_as_if_nothing_had_happened(cut: int) -> None:
    curve = [*noisy(3.0, 100), 4.0, 6.5, 5.0, *noisy(3.0, 50)]
    before = SpikeHistory()
    spikes_of(curve[:cut], before)
    after = RunState.from_dict(json.loads(encode_json(RunState(spikes=before).as_dict()))).spikes
    assert spikes_of(curve[cut:], after, first_step=cut + 1) == spikes_of(curve)
