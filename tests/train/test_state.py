"""The state of a run: what it takes from records, and its way through JSON."""

import json
import math

import pytest

from normlab.core.records import Outcome, StepRecord, encode_json
from normlab.train.state import LossHistory, RunState


def record_of(step: int, **changes) -> StepRecord:
    values = {"tokens": 100 * step, "seconds": 0.5 * step, "lr": 0.25, "train_loss": 2.5, "grad_norm": 0.75}
    return StepRecord(step=step, **{**values, **changes})


def test_a_record_moves_the_state_on() -> None:
    state = RunState()
    state.take(record_of(1, val_loss=3.0))
    state.take(record_of(2, train_loss=2.25))
    assert (state.step, state.tokens, state.seconds) == (2, 200, 1.0)
    assert (state.final_train_loss, state.final_val_loss, state.best_val_loss) == (2.25, None, 3.0)


def test_the_best_validation_loss_is_the_lowest_finite_one() -> None:
    state, best = RunState(), []
    for step, val_loss in enumerate([math.nan, math.inf, 3.0, None, 4.0, 3.0, 0.0, 1.0, math.nan, -math.inf], start=1):
        is_best = state.is_best(val_loss)
        state.take(record_of(step, val_loss=val_loss))
        best.append((is_best, state.best_val_loss))
    assert best == [
        (False, None),
        (False, None),
        (True, 3.0),
        (False, 3.0),
        (False, 3.0),
        (True, 3.0),
        (True, 0.0),
        (False, 0.0),
        (False, 0.0),
        (False, 0.0),
    ]


@pytest.mark.parametrize("number", [0.1, math.inf, -math.inf, math.nan, None])
def test_a_state_reads_back_from_json(number: float | None) -> None:
    history = LossHistory(initial_loss=4.0, average=0.1, weight=0.3, lowest=math.inf, steps_above=2)
    state = RunState(7, 700, 3.5, number, number, 2.0, None, history)
    assert repr(RunState.from_dict(json.loads(encode_json(state.as_dict())))) == repr(state)


@pytest.mark.parametrize(
    ("saved", "read"),
    [
        (None, None),
        (Outcome.INTERRUPTED, None),  # the run goes on
        (Outcome.COMPLETED, Outcome.COMPLETED),
        (Outcome.DIVERGED, Outcome.DIVERGED),
    ],
)
def test_what_was_decided_stays_decided_and_an_interrupted_run_is_open(saved, read) -> None:
    restored = RunState.from_dict(json.loads(encode_json(RunState(outcome=saved).as_dict())))
    assert restored.outcome is read
