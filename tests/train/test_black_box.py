"""The copy of a run in memory: when it is made, and that steps taken from it are the run's own, bit for bit."""

import copy

import pytest
import torch
from tests.train.test_loop import adamw_for, numbers, records_of, settings_of

from normlab.core.records import Outcome
from normlab.model.language_model import LanguageModel
from normlab.train.black_box import BlackBox, copy_run
from normlab.train.instability import Action, Instability
from normlab.train.state import RunState


@pytest.mark.parametrize(("num_steps", "expected"), [(1, 0), (4, 0), (6, 5), (14, 5), (15, 5), (16, 15)])
def test_steps_taken_from_the_copy_are_those_of_the_run(micro: LanguageModel, num_steps: int, expected: int) -> None:
    second = copy.deepcopy(micro)
    optimizer, state = adamw_for(micro), RunState()
    box = BlackBox(micro, optimizer, state, every=10)
    records = list(box.observed(records_of(micro, optimizer, state, settings_of(num_steps))))

    optimizer_again = adamw_for(second)
    then = box.restore(second, optimizer_again)
    assert (then.step, then.outcome) == (expected, None)
    again = list(records_of(second, optimizer_again, then, settings_of(num_steps)))
    assert [numbers(record) for record in again] == [numbers(record) for record in records[expected:]]
    assert all(torch.equal(a, b) for a, b in zip(micro.parameters(), second.parameters(), strict=True))


def test_the_copy_is_a_copy(micro: LanguageModel) -> None:
    optimizer, state = adamw_for(micro), RunState()
    box = BlackBox(micro, optimizer, state, every=2)
    list(box.observed(records_of(micro, optimizer, state, settings_of(4))))
    first, second = (box.restore(micro, optimizer) for _ in range(2))
    assert first.step == second.step == 3
    with torch.no_grad():
        micro.head.weight.zero_()
        optimizer.state[micro.head.weight]["exp_avg"].zero_()
    box.restore(micro, optimizer)
    assert micro.head.weight.any() and optimizer.state[micro.head.weight]["exp_avg"].any()


def test_it_is_made_anew_when_training_went_back_and_not_after_the_end(micro: LanguageModel) -> None:
    optimizer, state = adamw_for(micro), RunState()
    box = BlackBox(micro, optimizer, state, every=1000)
    records = records_of(micro, optimizer, state, settings_of(5))

    def with_one_return():
        for record in records:
            if record.step == 3:
                lost = Outcome.NONFINITE
                back = Instability(step=3, outcome=lost, what="", action=Action.WENT_BACK, back_to=1)
                state.instabilities.append(back)
            yield record

    list(box.observed(with_one_return()))
    assert box.state.step == 3
    box = BlackBox(micro, optimizer, state := RunState(), every=1)
    list(box.observed(records_of(micro, optimizer, state, settings_of(5))))
    assert box.state.step == 4


def test_one_run_can_be_copied_onto_another(micro: LanguageModel) -> None:
    second = copy.deepcopy(micro)
    optimizer, second_optimizer = adamw_for(micro), adamw_for(second)
    list(records_of(micro, optimizer, RunState(), settings_of(3)))
    copy_run(micro, optimizer, (second, second_optimizer))
    ends = [
        list(records_of(*parts, RunState(step=3), settings_of(6)))[-1].train_loss
        for parts in ((micro, optimizer), (second, second_optimizer))
    ]
    assert ends[0] == ends[1]
