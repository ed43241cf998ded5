"""task=train: train, evaluate, sample, and write the run folder."""

import traceback
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from normlab.app.announce import announce, resume_command, shown_path
from normlab.app.build import build_experiment
from normlab.app.canonical import fingerprint_of
from normlab.app.failures import failure_of, write_if_possible
from normlab.app.folders import check_folder_is_free
from normlab.app.mode import is_in_sweep
from normlab.app.packing.company import company
from normlab.app.run_lock import sole_writer
from normlab.app.summary import RunFacts, closing_text, summarise
from normlab.app.training import sampled_text, take_steps
from normlab.core.errors import UserError
from normlab.core.files import write_whole
from normlab.core.records import Outcome
from normlab.core.run_folder import RunFolder
from normlab.model.sampling import Sampler
from normlab.train.checkpoint import load_checkpoint
from normlab.train.intact import Intact, newest_intact
from normlab.train.state import RunState

CRASH = 1


def train(config: DictConfig, folder: RunFolder, *, prompt: str, sampler: Sampler) -> int:
    """Run one training to its outcome, record it, say what came of it; return the exit code.

    Divergence and NaN are results (0). What else ends a run is said and ends this run only (1).
    """
    with sole_writer(folder):
        check_folder_is_free(config, folder)
        result = folder.result()
        if result is not None:
            print(f"{shown_path(folder.path)} ended {result} already: there is nothing to resume.")
            return 0
        folder.clear_leftovers()
        return _train(config, folder, prompt, sampler)


def _train(config: DictConfig, folder: RunFolder, prompt: str, sampler: Sampler) -> int:
    checkpoint = _checkpoint_to_resume(config, folder)
    state = RunState() if checkpoint is None else checkpoint.state
    facts = RunFacts(fingerprint=fingerprint_of(config))
    stop = company().stop_request()
    try:
        experiment = build_experiment(config, announce)
        facts.learn(experiment, Path(config.cache))
        if checkpoint is not None:
            load_checkpoint(checkpoint.path, experiment.model, experiment.optimizer)
        with stop.listening():
            sample = partial(sampled_text, experiment, prompt, sampler, config.seed)
            facts.cause_of_death = take_steps(experiment, config, folder, state, stop, sample)
    except UserError:
        raise
    except KeyboardInterrupt:
        if not folder.config.is_file():
            raise  # before there is anything to go on with
        state.outcome = Outcome.INTERRUPTED
    except Exception as error:
        state.outcome, facts.error = _told(error, config, folder)
    write_if_possible(folder.summary, lambda: folder.write_summary(summarise(state, facts)))
    if not is_in_sweep():  # which has a line of its own for each run
        print(closing_text(state, facts))
        if facts.error is not None or state.outcome == Outcome.INTERRUPTED:
            print(f"go on with it: {resume_command(folder.path)}")
    if stop.signal_number is not None or state.outcome == Outcome.INTERRUPTED:
        return stop.exit_code  # also ends the sweep that this run, though it may be completed, is part of
    return CRASH if facts.error is not None else 0


def _told(error: Exception, config: DictConfig, folder: RunFolder) -> tuple[Outcome, str]:
    """The outcome that an exception means, and what is said of it; the run can be gone on with."""
    failure = failure_of(error, folder.path)
    if failure.is_ours:
        traceback.print_exc()
    if not folder.config.is_file():
        resolved = OmegaConf.to_yaml(config, resolve=True)
        write_if_possible(folder.config, lambda: write_whole(folder.config, resolved))
    return failure.outcome, failure.line


def _checkpoint_to_resume(config: DictConfig, folder: RunFolder) -> Intact | None:
    """What the run to resume goes on from; None for a new run, and for one that never saved any."""
    return None if config.resume is None else newest_intact(folder.checkpoints, announce)
