"""What is done about a step that is not finite or a loss that has left: three policies, carried out."""

import copy
import json
import math
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from tests.train.test_loop import adamw_for, batch, records_of, schedule, settings_of

from normlab.core.records import Outcome, StepRecord, encode_json
from normlab.model.language_model import LanguageModel
from normlab.model.loss import plain_loss
from normlab.train.backpropagation import Backpropagation, Batch
from normlab.train.instability import Action, Continue, Instability, OnInstability, Rollback, Stop, Trouble
from normlab.train.stability import GoBack, Stability
from normlab.train.state import LossHistory, RunState
from normlab.train.step import StepResult, training_step

NONFINITE, DIVERGED = Outcome.NONFINITE, Outcome.DIVERGED
EXACT = nullcontext()


def trouble(step: int, outcome: Outcome = NONFINITE, has_damaged_weights: bool = False) -> Trouble:
    return Trouble(step, outcome, has_damaged_weights)


def event(step: int, outcome: Outcome = NONFINITE, action: Action = Action.WENT_ON) -> Instability:
    return Instability(step=step, outcome=outcome, what="", action=action, back_to=None)


def test_stop_stops() -> None:
    assert Stop()([], trouble(1)) == Stop()([], trouble(1, DIVERGED)) == Action.STOPPED


def test_continue_goes_on_until_there_are_too_many_in_a_row() -> None:
    policy = Continue(max_in_a_row=3)
    assert policy([], trouble(5)) == Action.WENT_ON
    assert policy([event(4)], trouble(5)) == Action.WENT_ON
    assert policy([event(3), event(4)], trouble(5)) == Action.STOPPED
    assert policy([event(2), event(4)], trouble(5)) == Action.WENT_ON
    assert policy([event(3), event(4, DIVERGED)], trouble(5)) == Action.WENT_ON
    assert policy([event(3), event(4)], trouble(5, DIVERGED)) == Action.WENT_ON
    assert Continue(max_in_a_row=1)([], trouble(5)) == Action.STOPPED


def test_continue_cannot_go_on_with_damaged_weights() -> None:
    assert Continue(max_in_a_row=3)([], trouble(5, has_damaged_weights=True)) == Action.WENT_BACK


def test_rollback_goes_back_so_many_times() -> None:
    policy = Rollback(max_rollbacks=2)
    back = event(3, action=Action.WENT_BACK)
    assert policy([], trouble(5)) == policy([back], trouble(5, DIVERGED)) == Action.WENT_BACK
    assert policy([back, back], trouble(5)) == Action.STOPPED


class Rehearsal:
    """A run whose forward pass gives NaN on the batches of its bad steps; checkpoints, in memory, every fourth step."""

    def __init__(
        self,
        model: LanguageModel,
        policy: OnInstability,
        bad_steps: Collection[int],
        *,
        bad_validations: Collection[int] = (),
        steps: int = 12,
        val_every: int = 12,
    ):
        self.state = RunState()
        self.seen: list[int] = []
        self._model, self._optimizer = model, adamw_for(model)
        self._bad_steps, self._bad_validations = bad_steps, bad_validations
        self._saved: dict[int, Any] = {}
        hook = model.register_forward_hook(self._poison)
        self._save()
        self.records: list[StepRecord] = []
        settings = settings_of(steps, val_every=val_every)
        for record in records_of(
            model, self._optimizer, self.state, settings, self._batch, policy=policy, go_back=self._go_back
        ):
            self.records.append(record)
            if record.step % 4 == 0:
                self._save()
        hook.remove()

    def _batch(self, step: int) -> Batch:
        self.seen.append(step)
        return batch(step)

    def _poison(self, model: torch.nn.Module, args: tuple[Any, ...], logits_BTV: torch.Tensor) -> torch.Tensor:
        bad = self._bad_steps if torch.is_grad_enabled() else self._bad_validations
        return logits_BTV * math.nan if self.seen[-1] in bad else logits_BTV

    def _save(self) -> None:
        parts = (self._model.state_dict(), self._optimizer.state_dict(), self.state)
        self._saved[self.state.step] = copy.deepcopy(parts)

    def _go_back(self, step: int) -> RunState | None:
        steps = [saved for saved in self._saved if saved <= step]
        if not steps:
            return None
        weights, moments, before = copy.deepcopy(self._saved[max(steps)])
        self._model.load_state_dict(weights)
        self._optimizer.load_state_dict(moments)
        return before

    def outcomes(self) -> list[tuple[int, Action, int | None]]:
        return [(event.step, event.action, event.back_to) for event in self.state.instabilities]


def weights_after(model: LanguageModel, batches: Iterable[tuple[int, int]]) -> list[torch.Tensor]:
    """The weights after plain steps on the batches, each with the learning rate of its step."""
    optimizer = adamw_for(model)
    passes = Backpropagation(model, plain_loss, precision=nullcontext(), compile=False)
    for step, number in batches:
        training_step(model, optimizer, passes, batch(number), lr=schedule(step), grad_clip=1.0)
    return list(model.parameters())


def assert_same_bits(model: LanguageModel, expected: list[torch.Tensor]) -> None:
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), expected, strict=True))


def test_a_run_that_stops_ends_with_its_first_bad_step(micro: LanguageModel) -> None:
    run = Rehearsal(micro, Stop(), {6, 7})
    assert run.state.outcome == NONFINITE
    assert run.outcomes() == [(6, Action.STOPPED, None)]
    assert len(run.records) == 6


def test_a_run_that_continues_is_the_run_without_the_bad_steps(micro: LanguageModel) -> None:
    twin = copy.deepcopy(micro)
    run = Rehearsal(micro, Continue(max_in_a_row=3), {6, 7})
    assert run.state.outcome == Outcome.COMPLETED
    assert run.outcomes() == [(6, Action.WENT_ON, None), (7, Action.WENT_ON, None)]
    assert run.records[5].notes == ("the training loss is nan; training goes on",)
    assert run.records[4].notes == run.records[7].notes == ()
    assert_same_bits(micro, weights_after(twin, [(step, step) for step in range(1, 13) if step not in (6, 7)]))


def test_a_run_that_continues_ends_where_its_last_step_is_bad(micro: LanguageModel) -> None:
    assert Rehearsal(micro, Continue(max_in_a_row=3), {12}).state.outcome == NONFINITE


def test_after_the_last_step_there_is_no_going_back(micro: LanguageModel) -> None:
    run = Rehearsal(micro, Rollback(max_rollbacks=3), {12})
    assert (run.state.outcome, run.outcomes()) == (NONFINITE, [(12, Action.STOPPED, None)])


def test_a_run_that_rolls_back_is_the_run_without_the_steps_since_its_checkpoint(micro: LanguageModel) -> None:
    twin = copy.deepcopy(micro)
    run = Rehearsal(micro, Rollback(max_rollbacks=2), {7})
    assert run.state.outcome == Outcome.COMPLETED
    assert run.outcomes() == [(7, Action.WENT_BACK, 4)]
    assert run.seen == list(range(1, 13))  # the count goes on, no batch is seen twice
    assert run.records[6].notes == (
        "the training loss is nan; training went back to the weights of step 4 and past the batches up to 7",
    )
    assert_same_bits(micro, weights_after(twin, [(step, step) for step in range(1, 13) if step not in (5, 6, 7)]))


def test_a_run_rolls_back_only_so_often(micro: LanguageModel) -> None:
    run = Rehearsal(micro, Rollback(max_rollbacks=2), {3, 7, 9})
    assert run.outcomes() == [(3, Action.WENT_BACK, 0), (7, Action.WENT_BACK, 4), (9, Action.STOPPED, None)]
    assert (run.state.outcome, run.state.step) == (NONFINITE, 9)


def test_a_checkpoint_that_leads_to_the_same_trouble_at_once_is_not_gone_back_to_again(micro: LanguageModel) -> None:
    run = Rehearsal(micro, Rollback(max_rollbacks=3), {7, 8})
    assert run.outcomes() == [(7, Action.WENT_BACK, 4), (8, Action.WENT_BACK, 0)]


def test_where_there_is_no_checkpoint_to_go_back_to_the_run_stops(micro: LanguageModel) -> None:
    records = records_of(micro, adamw_for(micro), state := RunState(), settings_of(5), policy=Rollback(max_rollbacks=2))
    with torch.no_grad():
        micro.head.weight[0, 0] = math.nan
    assert len(list(records)) == 1
    assert (state.outcome, state.instabilities[0].action) == (NONFINITE, Action.STOPPED)


@pytest.mark.parametrize(
    ("policy", "outcome", "actions"),
    [
        (Stop(), NONFINITE, [(6, Action.STOPPED, None)]),
        (Continue(max_in_a_row=3), Outcome.COMPLETED, [(6, Action.WENT_ON, None)]),
        (Rollback(max_rollbacks=3), Outcome.COMPLETED, [(6, Action.WENT_BACK, 4)]),
    ],
)
def test_a_validation_that_is_not_finite_is_an_instability_of_its_step(
    micro: LanguageModel, policy: OnInstability, outcome: Outcome, actions: list
) -> None:
    run = Rehearsal(micro, policy, (), bad_validations=(6,), val_every=3)
    assert run.state.outcome == outcome
    assert run.outcomes() == actions
    assert run.state.instabilities[0].what == "the validation loss is nan"
    assert math.isfinite(run.records[5].train_loss) and math.isnan(run.records[5].val_loss or 0.0)


def test_a_last_validation_that_is_not_finite_is_how_the_run_ends(micro: LanguageModel) -> None:
    assert Rehearsal(micro, Continue(max_in_a_row=3), (), bad_validations=(12,)).state.outcome == NONFINITE


def losses_through(
    policy: OnInstability, losses: list[float], go_back: GoBack
) -> tuple[RunState, list[Outcome | None]]:
    """The outcomes that a loss curve leads to under a policy, at a patience of three steps and a margin of 1."""
    state = RunState()
    settings = settings_of(len(losses), patience_steps=3)
    stability = Stability(settings, 0, policy, go_back, state)
    outcomes = []
    for step, loss in enumerate(losses, start=1):
        outcomes.append(stability.after(step, StepResult(loss, 1.0, False))[0])
        state.step = step
    return state, outcomes


LEAVES = [5.0, 4.0, 3.0, 2.0, *[8.0] * 6]


def test_a_lost_loss_that_is_waited_for_is_listed_once_and_decided_at_the_end() -> None:
    for losses, expected in ((LEAVES, DIVERGED), ([*LEAVES, 2.0], Outcome.COMPLETED)):
        state, outcomes = losses_through(Continue(max_in_a_row=2), losses, lambda step: None)
        assert [(event.step, event.outcome) for event in state.instabilities] == [(7, DIVERGED)]
        assert outcomes == [*[None] * (len(losses) - 1), expected]


def test_a_lost_loss_goes_back_to_before_it_left_and_is_judged_by_what_was_known_then() -> None:
    asked: list[int] = []
    before = RunState(step=4, history=LossHistory(initial_loss=5.0, average=2.0, weight=1.0, lowest=2.0))

    def go_back(step: int) -> RunState:
        asked.append(step)
        return copy.deepcopy(before)

    state, outcomes = losses_through(Rollback(max_rollbacks=1), LEAVES, go_back)
    assert asked == [4]
    assert [(event.step, event.action) for event in state.instabilities] == [
        (7, Action.WENT_BACK),
        (10, Action.STOPPED),  # the patience began anew
    ]
    assert outcomes[6:] == [None, None, None, DIVERGED]


def test_a_rolled_back_state_reads_back_from_json(micro: LanguageModel) -> None:
    state = Rehearsal(micro, Rollback(max_rollbacks=2), {7}).state
    restored = RunState.from_dict(json.loads(encode_json(state.as_dict())))
    assert restored.instabilities == state.instabilities
    assert not restored.has_just_gone_back
    assert RunState(step=7, instabilities=state.instabilities).has_just_gone_back
