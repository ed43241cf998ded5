"""What is done when a run has died: its last steps are taken again, the fatal one under the autopsy's eyes."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import islice

from hydra.utils import instantiate
from omegaconf import DictConfig

from normlab.app.build import Experiment, build_model, build_optimizer
from normlab.app.instruments import attach_instruments
from normlab.autopsy.finding import FirstNonfinite
from normlab.autopsy.replay import first_nonfinite
from normlab.autopsy.settings import AutopsySettings
from normlab.core.errors import CheckpointError
from normlab.core.records import Outcome, StepRecord
from normlab.core.run_folder import RunFolder
from normlab.train.black_box import BlackBox, copy_run
from normlab.train.checkpoint import load_checkpoint
from normlab.train.finite import are_finite
from normlab.train.hardware import autocast
from normlab.train.instability import Action, Continue
from normlab.train.loop import training_records
from normlab.train.stability import Stability
from normlab.train.state import RunState


@dataclass(frozen=True)
class Recomputed:
    """The last steps of a run, taken again with every statistic read, and the first bad value of the fatal one.

    ``largest_difference`` is that of the training losses before the fatal step from those that the run had.
    """

    from_step: int
    records: list[StepRecord]
    largest_difference: float
    found: FirstNonfinite | None


def recompute_death(
    config: DictConfig, experiment: Experiment, folder: RunFolder, state: RunState, black_box: BlackBox
) -> Recomputed:
    """Take the last steps again, on a second model, which stands before the fatal step when that is examined.

    Where the fatal step left the run's own weights alone, those are examined.
    """
    settings: AutopsySettings = instantiate(config.autopsy)
    model = build_model(config, experiment.model.vocab_size, experiment.device)
    again = replace(experiment, model=model, optimizer=build_optimizer(config, model))
    is_intact = are_finite(experiment.model.parameters())
    if settings.recompute_steps > 0 or not is_intact:
        then = _start(again, folder, state, black_box, settings.recompute_steps)
    elif state.outcome == Outcome.NONFINITE:
        then = deepcopy(state)
        then.step -= 1
    else:
        return Recomputed(state.step, [], 0.0, None)
    from_step = then.step
    records = _steps_again(again, config, then, last_step=state.step)
    before = list(islice(records, state.step - 1 - from_step))
    found = None
    if state.outcome == Outcome.NONFINITE:
        if is_intact:
            copy_run(experiment.model, experiment.optimizer, (model, again.optimizer))
        found = find_first(again, config, state.step)
    losses = {record["step"]: float(record["train_loss"]) for record in folder.read_metrics()}
    differences = [abs(record.train_loss - losses[record.step]) for record in before]
    return Recomputed(from_step, [*before, *records], max(differences, default=0.0), found)


def find_first(experiment: Experiment, config: DictConfig, step: int) -> FirstNonfinite | None:
    """The first non-finite value of a step that the experiment's model and optimizer stand before."""
    batch = experiment.batches.training(step)
    return first_nonfinite(
        experiment.model,
        experiment.optimizer,
        experiment.loss,
        batch.inputs_BT,
        batch.targets_BT,
        lr=experiment.schedule(step),
        grad_clip=experiment.settings.grad_clip,
        precision=autocast(experiment.device, experiment.settings.precision),
    )


def _start(
    again: Experiment, folder: RunFolder, state: RunState, black_box: BlackBox, recompute_steps: int
) -> RunState:
    """Fill the second model from the copy in memory or from a checkpoint; return the state of then."""
    model, optimizer = again.model, again.optimizer
    valid_from = max((event.step for event in state.instabilities if event.action == Action.WENT_BACK), default=0)
    checkpoints = {int(path.name.removeprefix("step_")): path for path in folder.checkpoints.glob("step_*")}
    steps = [step for step in (black_box.state.step, *checkpoints) if valid_from <= step < state.step]
    recent = [step for step in steps if state.step - step <= recompute_steps]
    chosen = min(recent) if recent else max(steps)
    if chosen != black_box.state.step:
        try:
            return RunState.from_dict(load_checkpoint(checkpoints[chosen], model, optimizer))
        except CheckpointError:
            pass
    return black_box.restore(model, optimizer)


def _steps_again(again: Experiment, config: DictConfig, state: RunState, last_step: int) -> Iterator[StepRecord]:
    """The records of the steps up to the last, every statistic read, nothing validated, nothing stopped for."""
    settings = replace(again.settings, steps=last_step, val_every=last_step + 1)
    state.outcome = None
    records = training_records(
        again.model,
        again.optimizer,
        again.loss,
        again.schedule,
        again.batches.training,
        lambda: (),
        settings=settings,
        precision=autocast(again.device, settings.precision),
        stability=Stability(
            settings, config.schedule.warmup_steps, Continue(max_in_a_row=last_step), lambda step: None, state
        ),
        state=state,
    )
    all_of_it = replace(instantiate(config.telemetry), every=1, has_detail=True, sharpness_every=0)
    return attach_instruments(all_of_it, again, again.model, state, config.seed).observed(records, state.step + 1)


def autopsied(config, experiment, folder, state, black_box, sinks) -> None:
    """For now: what was found."""
    found = recompute_death(config, experiment, folder, state, black_box)
    sinks.text("autopsy", repr(found.found))
