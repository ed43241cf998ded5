"""When a run counts as lost, on loss curves made for it."""

import json
import math
from collections.abc import Iterable

import pytest

from normlab.core.records import Outcome, encode_json
from normlab.train.outcome import StabilityMonitor
from normlab.train.settings import DivergenceCriterion
from normlab.train.state import LossHistory, RunState
from normlab.train.step import StepResult

PATIENCE = 5


def monitor(
    margin_nats: float = 1.0, patience_steps: int = PATIENCE, smoothing: float = 0.5, warmup_steps: int = 0
) -> StabilityMonitor:
    criterion = DivergenceCriterion(margin_nats=margin_nats, patience_steps=patience_steps, smoothing=smoothing)
    return StabilityMonitor(criterion, warmup_steps, LossHistory())


def result_of(loss: float, grad_norm: float = 1.0, has_damaged_weights: bool = False) -> StepResult:
    return StepResult(loss, grad_norm, has_damaged_weights)


def outcome_of(watching: StabilityMonitor, losses: Iterable[float]) -> tuple[int, Outcome] | None:
    """The step and outcome that a loss curve leads to, None where the run survives."""
    for step, loss in enumerate(losses, start=1):
        outcome = watching.observe(step, result_of(loss))
        if outcome is not None:
            return step, outcome
    return None


def falling(start: float, end: float, num_steps: int) -> list[float]:
    return [start + (end - start) * step / (num_steps - 1) for step in range(num_steps)]


def test_a_run_that_learns_survives() -> None:
    assert outcome_of(monitor(), falling(6.0, 2.0, 200)) is None


def test_a_spike_that_recovers_is_not_divergence() -> None:
    curve = [*falling(6.0, 3.0, 50), 50.0, 3.0, 3.0, *falling(3.0, 2.5, 50)]
    assert outcome_of(monitor(patience_steps=10), curve) is None
    assert outcome_of(monitor(patience_steps=3), curve) is not None  # it was above for a while


def test_the_patience_begins_anew_after_every_recovery() -> None:
    waves = [*falling(6.0, 3.0, 20), *([9.0] * 4 + [3.0] * 20) * 5]
    assert outcome_of(monitor(smoothing=0.0), waves) is None
    assert outcome_of(monitor(smoothing=0.0, patience_steps=4), waves) == (24, Outcome.DIVERGED)


def test_a_plateau_above_the_initial_loss_is_divergence_after_the_patience() -> None:
    """Also within the margin: what is worse than no training is lost."""
    curve = [4.0, *[4.5] * 100]
    assert outcome_of(monitor(margin_nats=10.0), curve) == (1 + PATIENCE, Outcome.DIVERGED)


def test_a_plateau_at_the_initial_loss_is_not() -> None:
    assert outcome_of(monitor(), [4.0] * 100) is None


def test_a_loss_that_drifts_above_its_own_minimum_by_the_margin_is_divergence() -> None:
    curve = [6.0, 5.0, 4.0, 3.0, 2.0]
    assert outcome_of(monitor(smoothing=0.0), [*curve, *[3.25] * 20]) == (5 + PATIENCE, Outcome.DIVERGED)
    assert outcome_of(monitor(smoothing=0.0), [*curve, *[3.0] * 20]) is None
    assert outcome_of(monitor(smoothing=0.0, margin_nats=2.0), [*curve, *[3.25] * 20]) is None


def test_a_loss_that_creeps_up_is_measured_against_its_minimum_and_not_the_step_before() -> None:
    outcome = outcome_of(monitor(), [*falling(6.0, 2.0, 20), *falling(2.0, 5.0, 300)])
    assert outcome is not None
    assert outcome[1] == Outcome.DIVERGED


def test_nothing_finite_is_divergence_during_warmup_and_the_patience_begins_after_it() -> None:
    curve = [4.0, *[50.0] * 100]
    assert outcome_of(monitor(warmup_steps=101), curve) is None
    assert outcome_of(monitor(warmup_steps=30), curve) == (30 + PATIENCE, Outcome.DIVERGED)


def test_the_smoothed_loss_is_a_moving_average_corrected_for_its_start() -> None:
    losses = [4.0, 1.0, 7.0]
    watching = monitor(smoothing=0.9)
    outcome_of(watching, losses)
    weights = [0.9**age for age in (2, 1, 0)]
    expected = sum(weight * loss for weight, loss in zip(weights, losses, strict=True)) / sum(weights)
    assert watching.history.average / watching.history.weight == pytest.approx(expected, rel=1e-12)
    assert watching.history.initial_loss == 4.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("warmup_steps", [0, 100])
def test_a_nonfinite_loss_or_gradient_ends_the_run_at_once(value: float, warmup_steps: int) -> None:
    assert monitor(warmup_steps=warmup_steps).observe(1, result_of(value)) == Outcome.NONFINITE
    assert monitor(warmup_steps=warmup_steps).observe(1, result_of(4.0, grad_norm=value)) == Outcome.NONFINITE


def test_an_update_that_damages_the_weights_ends_the_run_though_loss_and_gradient_are_finite() -> None:
    assert monitor().observe(1, result_of(4.0, has_damaged_weights=True)) == Outcome.NONFINITE


def test_a_nonfinite_number_leaves_the_history_as_it_was() -> None:
    watching = monitor()
    outcome_of(watching, [4.0, 3.0])
    before = encode_json(vars(watching.history))
    for loss, grad_norm in ((math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan)):
        assert watching.observe(3, result_of(loss, grad_norm)) == Outcome.NONFINITE
    assert encode_json(vars(watching.history)) == before


def test_the_largest_finite_losses_are_finite_history() -> None:
    """A float32 loss near its limit overflows nothing here."""
    assert outcome_of(monitor(), [4.0, *[3e38] * 100]) == (1 + PATIENCE, Outcome.DIVERGED)


@pytest.mark.parametrize("cut", [0, 1, 30, 52])
def test_a_history_that_went_through_json_decides_as_if_nothing_had_happened(cut: int) -> None:
    curve = [*falling(6.0, 2.0, 50), *[3.75] * 20]
    expected = outcome_of(monitor(), curve)
    assert expected is not None

    before = monitor()
    assert outcome_of(before, curve[:cut]) is None
    saved = json.loads(encode_json(RunState(history=before.history).as_dict()))
    after = StabilityMonitor(before.criterion, 0, RunState.from_dict(saved).history)
    outcomes = [(step, after.observe(step, result_of(curve[step - 1]))) for step in range(cut + 1, expected[0] + 1)]
    assert outcomes[-1] == expected
    assert [outcome for _, outcome in outcomes[:-1]] == [None] * (len(outcomes) - 1)
