"""What is done when a run has died: its last steps are taken again, the fatal one under the autopsy's eyes."""

import math
from collections.abc import Iterable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import islice

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from normlab.app.autopsies import Death, write_autopsy
from normlab.app.build import Experiment, build_model, build_optimizer
from normlab.app.bundle import replay, replayed_from, save_bundle
from normlab.app.instruments import attach_instruments
from normlab.autopsy.settings import AutopsySettings
from normlab.core.errors import CheckpointError
from normlab.core.files import write_whole
from normlab.core.records import Outcome, StepRecord, encode_json
from normlab.core.run_folder import RunFolder
from normlab.telemetry.sinks import Sink
from normlab.train.backpropagation import Backpropagation, Batch
from normlab.train.black_box import BlackBox, copy_run
from normlab.train.checkpoint import load_checkpoint
from normlab.train.distributed.passes import SharedPasses
from normlab.train.evaluate import validation_loss
from normlab.train.finite import are_finite
from normlab.train.hardware import autocast
from normlab.train.instability import Action, Continue
from normlab.train.intact import checkpoints_by_step
from normlab.train.loop import training_records
from normlab.train.saved_state import run_state_from
from normlab.train.stability import Stability
from normlab.train.state import RunState


def examine_death(
    config: DictConfig, experiment: Experiment, folder: RunFolder, state: RunState, black_box: BlackBox, logger: Sink
) -> str:
    """Find out why a run has died, write it into its folder, and return what is said of it.

    The last steps are taken again on a second model, which stands before the fatal step when that is examined. Where
    the fatal step left the run's own weights alone, it is given those.
    """
    settings: AutopsySettings = instantiate(config.autopsy)
    model = build_model(config, experiment.model.vocab_size, experiment.device)
    again = replace(experiment, model=model, optimizer=build_optimizer(config, model))
    is_intact = are_finite(experiment.model.parameters())
    is_of_validation = state.final_val_loss is not None and not math.isfinite(state.final_val_loss)
    is_replayed = state.outcome == Outcome.NONFINITE
    then = deepcopy(state)
    if settings.recompute_steps > 0 or not is_intact:
        then = _start(again, folder, state, black_box, settings.recompute_steps)
    elif is_replayed and not is_of_validation:
        then.step -= 1
    from_step = then.step
    records = _steps_again(again, config, then, last_step=state.step)
    num_before = state.step - from_step if is_of_validation else state.step - 1 - from_step
    before = list(islice(records, max(num_before, 0)))
    found = None
    if is_replayed:
        if is_intact:
            copy_run(experiment.model, experiment.optimizer, (model, again.optimizer))
        batch = _bad_validation_batch(again) if is_of_validation else again.batches.training(state.step)
        found = replay(config, model, again.optimizer, batch, state.step)
        if settings.keep_bundle:
            save_bundle(folder, model, again.optimizer, then, batch)
    last_records = [record.as_dict() for record in [*before, *records]]
    write_whole(folder.recomputed_steps, "".join(f"{encode_json(record)}\n" for record in last_records))
    death = Death(
        outcome=state.outcome or Outcome.NONFINITE,
        step=state.step,
        what=state.instabilities[-1].what,
        finding=found,
        last_records=last_records,
        replayed=replayed_from(_origin_of_weights(from_step, is_intact), config) if is_replayed else None,
        statistics=_origin(from_step, before, folder, bool(last_records)),
    )
    as_drawn = build_model(config, model.vocab_size, torch.device("cpu"))  # a GPU holds two models and a copy already
    return write_autopsy(config, folder, as_drawn, death, logger)


def _bad_validation_batch(experiment: Experiment) -> Batch:
    """The first batch of a validation whose loss is not finite; a last one, where none is any more."""
    batch = None
    for batch in experiment.batches.validation():
        if not math.isfinite(validation_loss(_plain_passes(experiment).cross_entropy, [batch])):
            break
    assert batch is not None  # a validation has at least one window
    return batch


def _largest_difference(records: Iterable[StepRecord], folder: RunFolder) -> float:
    """Between the losses of recomputed steps and those that the run had; infinite where one is NaN alone."""
    losses = {record["step"]: float(record["train_loss"]) for record in folder.read_metrics()}
    return max((_distance(record.train_loss, losses[record.step]) for record in records), default=0.0)


def _distance(one: float, other: float) -> float:
    if one == other or (math.isnan(one) and math.isnan(other)):
        return 0.0
    difference = abs(one - other)
    return math.inf if math.isnan(difference) else difference


def _origin_of_weights(from_step: int, is_intact: bool) -> str:
    return "from the run's own weights and moments" if is_intact else f"from weights recomputed since step {from_step}"


def _origin(from_step: int, before: Sequence[StepRecord], folder: RunFolder, is_recomputed: bool) -> str:
    """Where the statistics of the last steps come from; of the steps before the fatal one, whether they came out so."""
    if not is_recomputed:
        return "what the run itself read"
    taken_again = f"the steps from {from_step + 1} on were taken again with all of them read"
    if not before:
        return f"the step that ended the run, {from_step + 1}, was taken again with all of it read"
    difference = _largest_difference(before, folder)
    if difference == 0:
        return f"{taken_again}; their losses agree with the run's to the bit"
    return f"{taken_again}; their losses differ from the run's by up to {difference:.2g}"


def _start(
    again: Experiment, folder: RunFolder, state: RunState, black_box: BlackBox, recompute_steps: int
) -> RunState:
    """Fill the second model from the copy in memory or a checkpoint, or leave it as drawn; return the state of then."""
    model, optimizer = again.model, again.optimizer
    valid_from = max((event.step for event in state.instabilities if event.action == Action.WENT_BACK), default=0)
    checkpoints = checkpoints_by_step(folder.checkpoints)
    steps = [step for step in (0, black_box.state.step, *checkpoints) if valid_from <= step < state.step]
    recent = [step for step in steps if state.step - step <= recompute_steps]
    chosen = min(recent) if recent else max(steps)
    if chosen == 0:
        return RunState()
    if chosen != black_box.state.step:
        try:
            return run_state_from(load_checkpoint(checkpoints[chosen], model, optimizer), checkpoints[chosen])
        except CheckpointError:
            pass
    return black_box.restore(model, optimizer)


def _plain_passes(experiment: Experiment) -> SharedPasses:
    """In the run's precision and parts, but never compiled, and in this process alone: every part is seen."""
    settings = experiment.settings
    precision = autocast(experiment.device, settings.precision)
    passes = Backpropagation(experiment.model, experiment.loss, precision=precision, compile=False)
    return SharedPasses(passes, batch_size=settings.batch_size, world=experiment.world)


def _steps_again(again: Experiment, config: DictConfig, state: RunState, last_step: int) -> Iterator[StepRecord]:
    """The records of the steps up to the last, every statistic read, nothing validated, nothing stopped for."""
    settings = replace(again.settings, steps=last_step)
    state.outcome = None
    records = training_records(
        again.model,
        again.optimizer,
        _plain_passes(again),
        again.schedule,
        again.batches.training,
        None,
        settings=settings,
        stability=Stability(
            settings, config.schedule.warmup_steps, Continue(max_in_a_row=last_step), lambda step: None, state
        ),
        state=state,
    )
    all_of_it = replace(instantiate(config.telemetry), every=1, has_detail=True, sharpness_every=0)
    return attach_instruments(all_of_it, again, state, config.seed, is_apart=False).observed(records, state.step + 1)
