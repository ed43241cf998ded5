"""task=train: train, evaluate, sample, and write the run folder."""

import sys
import traceback
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from normlab.app.announce import announce
from normlab.app.build import build_batches, build_corpus, build_model, build_optimizer, build_schedule
from normlab.app.interrupts import StopRequest, stop_requests
from normlab.app.summary import RunFacts, closing_line, summarise
from normlab.core.errors import ConfigError, UserError
from normlab.core.files import write_whole
from normlab.core.records import Outcome
from normlab.core.run_folder import RunFolder
from normlab.core.seeding import derive_seed
from normlab.data.entropy import entropy_per_token
from normlab.data.tokenizer import Tokenizer
from normlab.model.sampling import Sampler, sample_text
from normlab.telemetry.console import ConsoleSink
from normlab.telemetry.sinks import JsonLinesSink, Sink
from normlab.train.checkpoint import load_checkpoint, read_state
from normlab.train.hardware import autocast, choose_device, compiled, describe
from normlab.train.keeper import LAST, CheckpointKeeper
from normlab.train.loop import training_records
from normlab.train.outcome import StabilityMonitor
from normlab.train.settings import TrainerSettings
from normlab.train.state import RunState

CRASH = 1


def train(config: DictConfig, folder: RunFolder, *, prompt: str, sampler: Sampler) -> int:
    """Run one training to its outcome, record it, say what came of it; return the exit code.

    Divergence and NaN are results (0). An exception that nobody expected is shown and ends this run only (1).
    """
    if config.resume is None and folder.metrics.is_file():
        raise ConfigError(
            f"A new run needs a folder of its own; {folder.path} holds a run already. "
            f"Type resume={folder.path} to go on with it, or name another hydra.run.dir."
        )
    if folder.read_summary().get("outcome") == Outcome.COMPLETED:
        print(f"{folder.path} is completed already: there is nothing to resume.")
        return 0
    checkpoint = folder.checkpoints / LAST if config.resume is not None else None
    state = RunState() if checkpoint is None else RunState.from_dict(read_state(checkpoint))
    facts = RunFacts.of(config)
    with stop_requests() as stop:
        try:
            _train(config, folder, checkpoint, state, facts, stop, prompt, sampler)
        except UserError:
            raise
        except Exception as error:
            state.outcome = Outcome.OUT_OF_MEMORY if _is_out_of_memory(error) else Outcome.CRASHED
            facts.error = f"{type(error).__name__}: {error}"
            traceback.print_exc()
    folder.write_summary(summarise(state, facts))
    print(closing_line(state, facts))
    if state.outcome == Outcome.INTERRUPTED:
        sys.exit(stop.exit_code)  # also ends the sweep that this run may be part of
    return CRASH if facts.error is not None else 0


def _train(
    config: DictConfig,
    folder: RunFolder,
    checkpoint: Path | None,
    state: RunState,
    facts: RunFacts,
    stop: StopRequest,
    prompt: str,
    sampler: Sampler,
) -> None:
    settings: TrainerSettings = instantiate(config.trainer)
    device = choose_device(settings.device)
    facts.hardware = describe(device)
    source, corpus = build_corpus(config, announce)
    batches = build_batches(config, corpus, device)
    model = build_model(config, corpus.tokenizer, device)
    optimizer = build_optimizer(config, model)
    facts.num_parameters = model.num_parameters()
    facts.entropy_per_token = entropy_per_token(source, "valid", len(corpus.valid), Path(config.cache))
    if checkpoint is not None:
        load_checkpoint(checkpoint, model, optimizer)
        folder.forget_metrics_after(state.step)

    resolved = _write_configuration(config, folder, corpus.tokenizer)
    keeper = CheckpointKeeper(folder.checkpoints, model, optimizer)
    records = training_records(
        compiled(model, settings.compile),
        optimizer,
        build_schedule(config),
        batches.training,
        batches.validation,
        settings=settings,
        precision=autocast(device, settings.precision),
        monitor=StabilityMonitor(settings.divergence, config.schedule.warmup_steps, state.history),
        state=state,
    )
    sinks = _open_sinks(config, folder, settings, state)
    try:
        for sink in sinks:
            sink.text("config", resolved)
        for record in records:
            for sink in sinks:
                sink.record(record)
            if stop.signal_number is not None and state.outcome is None:
                state.outcome = Outcome.INTERRUPTED
            if _is_checkpoint_due(state, settings):
                keeper.save(state.step, state.as_dict(), is_best=state.is_best(record.val_loss))
            if state.outcome is not None:
                break
        text = _sample(model, corpus.tokenizer, prompt, sampler, config.seed)
        write_whole(folder.samples, text + "\n")
        for sink in sinks:
            sink.text("sample", text)
    finally:
        for sink in sinks:
            sink.close()


def _is_checkpoint_due(state: RunState, settings: TrainerSettings) -> bool:
    """At the set interval, at a best validation, and at an end with weights worth keeping."""
    if state.outcome == Outcome.NONFINITE:
        return False
    is_at_interval = settings.checkpoint_every > 0 and state.step % settings.checkpoint_every == 0
    return is_at_interval or state.is_best(state.final_val_loss) or state.outcome is not None


def _write_configuration(config: DictConfig, folder: RunFolder, tokenizer: Tokenizer) -> str:
    """Write the resolved configuration, without Hydra's own part, and the tokenizer; return the former."""
    resolved = OmegaConf.to_yaml(config, resolve=True)
    write_whole(folder.config, resolved)
    tokenizer.save(folder.tokenizer)
    return resolved


def _open_sinks(config: DictConfig, folder: RunFolder, settings: TrainerSettings, state: RunState) -> list[Sink]:
    first_step = state.step + 1
    return [
        JsonLinesSink(folder.metrics),
        instantiate(config.logger)(folder.tensorboard, first_step),
        ConsoleSink(settings.steps, first_step),
    ]


def _sample(model, tokenizer: Tokenizer, prompt: str, sampler: Sampler, seed: int) -> str:
    generator = torch.Generator().manual_seed(derive_seed(seed, "sample"))
    try:
        return sample_text(model, tokenizer, prompt, sampler, generator)
    except FloatingPointError as error:
        return f"(no sample: {error})"


def _is_out_of_memory(error: Exception) -> bool:
    """CUDA has an error class for it; the CPU's allocator raises a RuntimeError that says so."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
