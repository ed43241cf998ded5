"""The loop: one record a step, a state that stands exactly after it, and no trace of a stop in between."""

import copy
import json
import math
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import optim

from normlab.core.records import Outcome, StepRecord, encode_json
from normlab.model.language_model import LanguageModel
from normlab.model.loss import plain_loss
from normlab.optim.adamw import adamw
from normlab.train.backpropagation import Backpropagation, Batch
from normlab.train.checkpoint import load_checkpoint, save_checkpoint
from normlab.train.evaluate import validation_loss
from normlab.train.instability import OnInstability, Stop
from normlab.train.loop import training_records
from normlab.train.settings import DivergenceCriterion, TrainerSettings
from normlab.train.spikes import SpikeCriterion
from normlab.train.stability import GoBack, Stability
from normlab.train.state import RunState

BATCH_SIZE, CONTEXT, VOCAB = 4, 16, 64
STOP = Stop()


def nowhere(step: int) -> None:
    """There is no checkpoint to go back to."""


def batch(seed: int) -> Batch:
    tokens = torch.randint(VOCAB // 4, (BATCH_SIZE, CONTEXT + 1), generator=torch.Generator().manual_seed(seed))
    return Batch(tokens[:, :-1], tokens[:, 1:])


def validation_batches() -> list[Batch]:
    return [batch(1_000_000)]


def schedule(step: int) -> float:
    return 0.01 / step**0.5


def adamw_for(model: LanguageModel) -> optim.AdamW:
    return adamw(model, lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)


def passes_of(model: LanguageModel) -> Backpropagation:
    return Backpropagation(model, plain_loss, precision=nullcontext(), compile=False)


def settings_of(steps: int, val_every: int = 4, patience_steps: int = 100) -> TrainerSettings:
    return TrainerSettings(
        steps=steps,
        sampling="with_replacement",
        batch_size=BATCH_SIZE,
        global_batch=None,
        grad_clip=1.0,
        val_every=val_every,
        val_tokens=BATCH_SIZE * CONTEXT,
        checkpoint_every=0,
        divergence=DivergenceCriterion(margin_nats=1.0, patience_steps=patience_steps, smoothing=0.0),
        spikes=SpikeCriterion(deviations=6.0, smoothing=0.9),
        device="cpu",
        precision="float32",
        compile=False,
        cuda_graphs=False,
        parallel="none",
    )


def records_of(
    model: LanguageModel,
    optimizer: optim.Optimizer,
    state: RunState,
    settings: TrainerSettings,
    training_batch=batch,
    schedule=schedule,
    policy: OnInstability = STOP,
    go_back: GoBack = nowhere,
) -> Iterator[StepRecord]:
    return training_records(
        model,
        optimizer,
        passes_of(model),
        schedule,
        training_batch,
        validation_batches,
        settings=settings,
        stability=Stability(settings, 0, policy, go_back, state),
        state=state,
    )


def numbers(record: StepRecord) -> dict[str, float]:
    """A record without the time that it took."""
    return {name: value for name, value in record.as_dict().items() if name != "seconds"}


def poison(model: LanguageModel) -> None:
    with torch.no_grad():
        model.head.weight[0, 0] = math.nan


def test_there_is_one_record_a_step_and_validation_where_it_is_due(micro: LanguageModel) -> None:
    state = RunState()
    records = list(records_of(micro, adamw_for(micro), state, settings_of(10)))
    assert [record.step for record in records] == list(range(1, 11))
    assert [record.tokens for record in records] == [step * BATCH_SIZE * CONTEXT for step in range(1, 11)]
    assert [record.lr for record in records] == [schedule(step) for step in range(1, 11)]
    assert [record.step for record in records if record.val_loss is not None] == [4, 8, 10]
    assert all(earlier.seconds < later.seconds for earlier, later in pairwise(records))
    assert records[-1].train_loss < records[0].train_loss - 0.5
    assert state.outcome == Outcome.COMPLETED


def test_a_batch_is_the_one_of_its_step(micro: LanguageModel) -> None:
    asked: list[int] = []

    def training_batch(step: int) -> Batch:
        asked.append(step)
        return batch(step)

    list(records_of(micro, adamw_for(micro), RunState(step=3), settings_of(6), training_batch))
    assert asked == [4, 5, 6]


def test_model_optimizer_and_state_stand_after_the_record_at_every_yield(micro: LanguageModel) -> None:
    optimizer, state = adamw_for(micro), RunState()
    for record in records_of(micro, optimizer, state, settings_of(5, val_every=1)):
        assert (state.step, state.tokens, state.seconds) == (record.step, record.tokens, record.seconds)
        assert (state.final_train_loss, state.final_val_loss) == (record.train_loss, record.val_loss)
        assert (state.outcome is None) == (record.step < 5)
        assert optimizer.state[micro.head.weight]["step"].item() == record.step
        # The validation loss is that of the weights after the step, which are the model's now.
        assert validation_loss(passes_of(micro).cross_entropy, validation_batches()) == record.val_loss
        assert state.history.initial_loss is not None


def test_training_does_not_depend_on_how_often_it_is_validated(micro: LanguageModel) -> None:
    twin = copy.deepcopy(micro)
    often = list(records_of(micro, adamw_for(micro), RunState(), settings_of(6, val_every=1)))
    rarely = list(records_of(twin, adamw_for(twin), RunState(), settings_of(6, val_every=100)))
    assert [record.train_loss for record in often] == [record.train_loss for record in rarely]


@pytest.mark.parametrize("stop_after", [1, 6, 11])
def test_a_run_that_was_stopped_and_goes_on_gives_the_bits_of_one_that_was_not(
    micro: LanguageModel, tmp_path: Path, stop_after: int
) -> None:
    settings = settings_of(12)
    unbroken, stopped, resumed, forgetful = (copy.deepcopy(micro) for _ in range(4))
    whole_state = RunState()
    expected = [numbers(record) for record in records_of(unbroken, adamw_for(unbroken), whole_state, settings)]

    state, optimizer = RunState(), adamw_for(stopped)
    before = []
    for record in records_of(stopped, optimizer, state, settings):
        before.append(numbers(record))
        if record.step == stop_after:
            state.outcome = Outcome.INTERRUPTED
            break
    save_checkpoint(tmp_path / "step", stopped, optimizer, state.as_dict())

    optimizer = adamw_for(resumed)
    resumed_state = RunState.from_dict(load_checkpoint(tmp_path / "step", resumed, optimizer))
    after = [numbers(record) for record in records_of(resumed, optimizer, resumed_state, settings)]
    assert before + after == expected
    for ours, theirs in zip(resumed.parameters(), unbroken.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert {**resumed_state.as_dict(), "seconds": 0} == {**whole_state.as_dict(), "seconds": 0}

    # Without what the optimizer remembers it is another run.
    forgetful_state = RunState.from_dict(load_checkpoint(tmp_path / "step", forgetful))
    other = [numbers(record) for record in records_of(forgetful, adamw_for(forgetful), forgetful_state, settings)]
    assert other[-1]["val_loss"] != expected[-1]["val_loss"]


def test_the_seconds_of_a_resumed_run_go_on_counting(micro: LanguageModel) -> None:
    [record] = records_of(micro, adamw_for(micro), RunState(step=4, tokens=256, seconds=1000.0), settings_of(5))
    assert 1000.0 < record.seconds < 1100.0
    assert record.tokens == 256 + BATCH_SIZE * CONTEXT


def test_a_nonfinite_step_is_the_last_one_and_is_recorded_without_a_validation(micro: LanguageModel) -> None:
    state, records = RunState(), []
    for record in records_of(micro, adamw_for(micro), state, settings_of(10, val_every=1)):
        records.append(record)
        if record.step == 3:
            poison(micro)
    assert [record.step for record in records] == [1, 2, 3, 4]
    assert math.isnan(records[-1].train_loss)
    assert records[-1].val_loss is None
    assert state.outcome == Outcome.NONFINITE
    assert state.step == 4
    assert state.best_val_loss is not None


def test_a_nonfinite_last_step_is_not_completed(micro: LanguageModel) -> None:
    poison(micro)
    state = RunState()
    assert len(list(records_of(micro, adamw_for(micro), state, settings_of(1)))) == 1
    assert state.outcome == Outcome.NONFINITE


def test_a_diverged_run_ends_with_a_validation(micro: LanguageModel) -> None:
    state = RunState()
    settings = settings_of(50, val_every=1000, patience_steps=2)
    records = list(records_of(micro, adamw_for(micro), state, settings, schedule=lambda step: 10.0))
    assert state.outcome == Outcome.DIVERGED
    assert len(records) < 50
    assert records[-1].val_loss is not None
    assert [record.val_loss for record in records[:-1]] == [None] * (len(records) - 1)


@pytest.mark.parametrize("outcome", [Outcome.COMPLETED, Outcome.DIVERGED])
def test_a_run_with_an_outcome_takes_no_further_step(micro: LanguageModel, outcome: Outcome) -> None:
    saved = json.loads(encode_json(RunState(step=5, outcome=outcome).as_dict()))
    state = RunState.from_dict(saved)
    assert list(records_of(micro, adamw_for(micro), state, settings_of(10))) == []
    assert state.outcome == outcome
