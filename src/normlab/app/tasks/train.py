"""task=train: train, evaluate, sample, and write the run folder."""

import sys
import traceback
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig

from normlab.app.announce import announce, shown_path
from normlab.app.build import build_experiment
from normlab.app.canonical import fingerprint_of
from normlab.app.interrupts import StopRequest
from normlab.app.summary import RunFacts, closing_line, summarise
from normlab.app.training import sampled_text, take_steps
from normlab.core.errors import ConfigError, UserError
from normlab.core.records import Outcome
from normlab.core.run_folder import RunFolder
from normlab.model.sampling import Sampler
from normlab.train.checkpoint import load_checkpoint, read_state
from normlab.train.keeper import LAST
from normlab.train.state import RunState

CRASH = 1


def train(config: DictConfig, folder: RunFolder, *, prompt: str, sampler: Sampler) -> int:
    """Run one training to its outcome, record it, say what came of it; return the exit code.

    Divergence and NaN are results (0). An exception that nobody expected is shown and ends this run only (1).
    """
    _check_folder_is_free(config, folder)
    if folder.read_summary().get("outcome") == Outcome.COMPLETED:
        print(f"{folder.path} is completed already: there is nothing to resume.")
        return 0
    checkpoint = _checkpoint_to_resume(config, folder)
    state = RunState() if checkpoint is None else RunState.from_dict(read_state(checkpoint))
    facts = RunFacts(fingerprint=fingerprint_of(config))
    stop = StopRequest()
    try:
        experiment = build_experiment(config, announce)
        facts.learn(experiment, Path(config.cache))
        if checkpoint is not None:
            load_checkpoint(checkpoint, experiment.model, experiment.optimizer)
        with stop.listening():
            sample = partial(sampled_text, experiment, prompt, sampler, config.seed)
            take_steps(experiment, config, folder, state, stop, sample)
    except UserError:
        raise
    except KeyboardInterrupt:
        state.outcome = Outcome.INTERRUPTED
    except Exception as error:
        facts.error = f"{type(error).__name__}: {error}"
        if _is_out_of_memory(error):
            state.outcome = Outcome.OUT_OF_MEMORY
        else:
            state.outcome = Outcome.CRASHED
            traceback.print_exc()
    folder.write_summary(summarise(state, facts))
    print(closing_line(state, facts))
    if state.outcome == Outcome.INTERRUPTED:
        print(f"go on with it: python src/run.py resume={shown_path(folder.path)}")
        sys.exit(stop.exit_code)  # also ends the sweep that this run may be part of
    return CRASH if facts.error is not None else 0


def _check_folder_is_free(config: DictConfig, folder: RunFolder) -> None:
    if config.resume is None and folder.metrics.is_file():
        raise ConfigError(
            f"A new run needs a folder of its own; {folder.path} holds a run already. "
            f"Type resume={folder.path} to go on with it, or name another hydra.run.dir."
        )


def _checkpoint_to_resume(config: DictConfig, folder: RunFolder) -> Path | None:
    """The last checkpoint of the run to resume; None for a new run, and for one that never saved any."""
    last = folder.checkpoints / LAST
    return last if config.resume is not None and last.exists() else None


def _is_out_of_memory(error: Exception) -> bool:
    """CUDA has an error class for it; the CPU's allocator raises a RuntimeError that says so."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
