"""The steps of one run, and all that is written while they are taken."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from normlab.app.announce import announce
from normlab.app.build import Experiment
from normlab.app.deaths import examine_death
from normlab.app.instruments import attach_instruments
from normlab.app.interrupts import StopRequest
from normlab.app.packing.company import company
from normlab.app.sinks import Sinks, open_sinks
from normlab.app.together import in_one_process
from normlab.autopsy.early_warning import EarlyWarning
from normlab.autopsy.limits import limits_of
from normlab.core.errors import CheckpointError
from normlab.core.files import write_whole
from normlab.core.records import Outcome, StepRecord
from normlab.core.run_folder import RunFolder
from normlab.core.seeding import derive_seed
from normlab.data.prefetch import Prefetcher
from normlab.model.sampling import Sampler, sample_text
from normlab.telemetry.sinks import fenced
from normlab.train.backpropagation import Backpropagation
from normlab.train.black_box import BlackBox
from normlab.train.distributed.passes import SharedPasses, wrapped
from normlab.train.hardware import autocast
from normlab.train.instability import OnInstability
from normlab.train.keeper import CheckpointKeeper
from normlab.train.loop import training_records
from normlab.train.settings import TrainerSettings
from normlab.train.stability import Stability
from normlab.train.state import RunState

PREFETCH_DEPTH = 2

Sample = Callable[[Experiment], str]


def take_steps(
    experiment: Experiment, config: DictConfig, folder: RunFolder, state: RunState, stop: StopRequest, sample: Sample
) -> str | None:
    """Write the beginning of the run folder, a record and now and then a checkpoint for every step, and the end.

    The end is a sample of text, and where the run has died its autopsy, whose short form is returned; an interrupted
    run has none yet. Of several processes rank 0 alone writes.
    """
    world = experiment.world
    resolved = _write_beginning(experiment, config, folder, state)
    policy: OnInstability = instantiate(config.on_instability)
    keeper = _open_keeper(experiment, folder, state, policy)
    batches = Prefetcher(experiment.batches.training, first_step=state.step + 1, depth=PREFETCH_DEPTH)
    black_box = BlackBox(experiment.model, experiment.optimizer, state, every=config.autopsy.copy_every)
    warning = EarlyWarning(limits_of(experiment.model))
    for past in folder.read_metrics() if world.is_main else ():
        warning.remember(past)
    records = warning.observed(_observed_records(experiment, config, state, batches, policy, keeper))
    records = black_box.observed(records)
    opened = open_sinks(config, folder, experiment.settings.steps, state) if world.is_main else nullcontext(Sinks([]))
    with batches, opened as sinks:
        sinks.text("config", fenced(resolved))
        for record in records:
            sinks.record(record)
            is_due = _is_checkpoint_due(state, experiment.settings)
            if is_due:
                _save(keeper, state)
            stop.signal_number = world.largest(stop.signal_number or 0) or None
            if stop.signal_number is not None and state.outcome is None:
                state.outcome = Outcome.INTERRUPTED
                if not is_due:
                    _save(keeper, state)
                return None
        is_dead = state.outcome != Outcome.COMPLETED
        complete = in_one_process(config, experiment, black_box, is_dead=is_dead)
        if complete is None:
            return None
        text = sample(complete)
        write_whole(folder.samples, text + "\n")
        sinks.text("sample", fenced(text))
        if not is_dead:
            return None
        try:
            return examine_death(config, complete, folder, state, black_box, sinks)
        except Exception as error:  # the result stands, whatever becomes of its explanation
            announce(f"note: the autopsy failed ({' '.join(f'{type(error).__name__}: {error}'.split())}).")
            return None


def _write_beginning(experiment: Experiment, config: DictConfig, folder: RunFolder, state: RunState) -> str:
    """Configuration, which is returned, and tokenizer; records of steps that will be taken again are dropped."""
    resolved = OmegaConf.to_yaml(config, resolve=True)
    if not experiment.world.is_main:
        return resolved
    warmup_steps, steps = config.schedule.warmup_steps, experiment.settings.steps
    if warmup_steps >= steps:
        announce(
            f"note: the warmup ({warmup_steps} steps) is as long as the run ({steps}): the peak rate is never "
            f"reached, divergence never judged. Try schedule.warmup_steps={steps // 10}."
        )
    write_whole(folder.config, resolved)
    if experiment.corpus.tokenizer is not None:
        experiment.corpus.tokenizer.save(folder.tokenizer)
    if folder.forget_metrics_after(state.step) < state.step:
        announce(f"note: {folder.metrics} lacks some of the steps up to {state.step}; they are not taken again.")
    return resolved


def _observed_records(
    experiment: Experiment,
    config: DictConfig,
    state: RunState,
    batches: Prefetcher,
    policy: OnInstability,
    keeper: CheckpointKeeper,
) -> Iterator[StepRecord]:
    """One record a step, with what the instruments read."""
    settings = experiment.settings
    passes = _passes_of(experiment)
    records = training_records(
        experiment.model,
        experiment.optimizer,
        passes,
        experiment.schedule,
        batches,
        experiment.batches.validation,
        settings=settings,
        stability=Stability(settings, config.schedule.warmup_steps, policy, partial(_go_back, keeper), state),
        state=state,
        world=experiment.world,
    )
    instruments = attach_instruments(
        instantiate(config.telemetry), experiment, state, config.seed, is_apart=passes.hides_model
    )
    return instruments.observed(records, state.step + 1)


def _passes_of(experiment: Experiment) -> SharedPasses:
    """The run's own, which a pack may share, or those that it shares with other processes."""
    settings, world = experiment.settings, experiment.world
    if world.size == 1:
        return SharedPasses(company().passes_of(experiment), batch_size=settings.batch_size, world=world)
    model, hold = wrapped(experiment.model, settings.parallel)
    precision = autocast(experiment.device, settings.precision)
    passes = Backpropagation(model, experiment.loss, precision=precision, compile=settings.compile)
    return SharedPasses(passes, batch_size=settings.batch_size, world=world, hold=hold)


def _open_keeper(experiment: Experiment, folder: RunFolder, state: RunState, policy: OnInstability) -> CheckpointKeeper:
    """Its links stand as they did at the step that the run goes on from."""
    reach_steps = experiment.settings.divergence.patience_steps if policy.goes_back else 0
    keeper = CheckpointKeeper(
        folder.checkpoints, experiment.model, experiment.optimizer, reach_steps=reach_steps, world=experiment.world
    )
    if state.step > 0:
        keeper.resume_from(folder.checkpoints / f"step_{state.step}", is_best=state.is_best(state.final_val_loss))
    elif policy.goes_back:
        _save(keeper, state)
    return keeper


def _save(keeper: CheckpointKeeper, state: RunState) -> None:
    is_saved = keeper.save(state.step, state.as_dict(), is_best=state.is_best(state.final_val_loss))
    if not is_saved and keeper.world.is_main:
        announce(f"note: the optimizer's state is not finite after step {state.step}: no checkpoint of it is written.")


def _go_back(keeper: CheckpointKeeper, step: int) -> RunState | None:
    try:
        return RunState.from_dict(keeper.restore(step))
    except CheckpointError:
        return None


def _is_checkpoint_due(state: RunState, settings: TrainerSettings) -> bool:
    """At the set interval, at a best validation, and at an end with weights worth keeping."""
    if state.outcome == Outcome.NONFINITE:
        return False
    is_at_interval = settings.checkpoint_every > 0 and state.step % settings.checkpoint_every == 0
    return is_at_interval or state.is_best(state.final_val_loss) or state.outcome is not None


def sampled_text(experiment: Experiment, prompt: str, sampler: Sampler, seed: int) -> str:
    """A text that the model writes, or why it writes none."""
    tokenizer = experiment.corpus.tokenizer
    if tokenizer is None:
        return "(no sample: the data came as tokens, without a tokenizer)"
    generator = torch.Generator().manual_seed(derive_seed(seed, "sample"))
    try:
        return sample_text(experiment.model, tokenizer, prompt, sampler, generator)
    except FloatingPointError as error:
        return f"(no sample: {error})"
