"""task=train: train, evaluate, sample, and write the run folder."""

import traceback
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from normlab.app.announce import announce, resume_command, shown_path
from normlab.app.build import build_experiment
from normlab.app.canonical import fingerprint_of
from normlab.app.devices import check_group
from normlab.app.failures import Failure, failure_of, write_if_possible
from normlab.app.folders import check_folder_is_free
from normlab.app.mode import is_in_sweep
from normlab.app.packing.company import company
from normlab.app.run_lock import sole_writer
from normlab.app.summary import RunFacts, closing_text, summarise
from normlab.app.together import announce_in
from normlab.app.training import sampled_text, take_steps
from normlab.core.errors import UserError
from normlab.core.files import write_whole
from normlab.core.records import Outcome
from normlab.core.run_folder import RunFolder
from normlab.model.sampling import Sampler
from normlab.train.checkpoint import load_checkpoint
from normlab.train.distributed.group import this_world
from normlab.train.distributed.watch import PeerLost
from normlab.train.distributed.world import MainFailed, World
from normlab.train.intact import Intact, newest_intact
from normlab.train.saved_state import read_run_state
from normlab.train.state import RunState

CRASH = 1


def train(config: DictConfig, folder: RunFolder, *, prompt: str, sampler: Sampler) -> int:
    """Run one training to its outcome, record it, say what came of it; return the exit code.

    Divergence and NaN are results (0). What else ends a run is said and ends this run only (1).
    """
    world = this_world()
    with ExitStack() as stack:

        def begin() -> Outcome | None:
            check_group(config, world.size)
            stack.enter_context(sole_writer(folder))
            check_folder_is_free(config, folder)
            result = folder.result()
            if result is None:
                folder.clear_leftovers()
            return result

        result = world.from_main(begin)
        if result is not None:
            print(f"{shown_path(folder.path)} ended {result} already: there is nothing to resume.")
            return 0
        return _train(config, folder, prompt, sampler, world)


def _train(config: DictConfig, folder: RunFolder, prompt: str, sampler: Sampler, world: World) -> int:
    checkpoint, state = _checkpoint_to_resume(config, folder, world)
    facts = RunFacts(fingerprint=fingerprint_of(config))
    stop = company().stop_request()
    try:
        experiment = build_experiment(config, announce_in(world), world)
        if world.is_main:
            facts.learn(experiment, Path(config.cache))
        if checkpoint is not None:
            load_checkpoint(checkpoint, experiment.model, experiment.optimizer)
        with stop.listening():
            sample = partial(sampled_text, prompt=prompt, sampler=sampler, seed=config.seed)
            facts.cause_of_death = take_steps(experiment, config, folder, state, stop, sample)
    except (UserError, MainFailed):
        raise
    except KeyboardInterrupt:
        if not folder.config.is_file():
            raise  # before there is anything to go on with
        state.outcome = Outcome.INTERRUPTED
    except Exception as error:
        explained = world.explained(error)
        if not world.is_main:
            raise explained from None if explained is not error else error
        state.outcome, facts.error = _told(explained, config, folder)
        world.abandon()
    if world.is_main:
        write_if_possible(folder.summary, lambda: folder.write_summary(summarise(state, facts)))
        _say_how_it_ended(state, facts, folder)
    if facts.error is not None:
        return CRASH
    if stop.signal_number is not None or state.outcome == Outcome.INTERRUPTED:
        return stop.exit_code  # also ends the sweep that this run, though it may be completed, is part of
    return 0


def _say_how_it_ended(state: RunState, facts: RunFacts, folder: RunFolder) -> None:
    if is_in_sweep():  # which has a line of its own for each run
        return
    print(closing_text(state, facts))
    if facts.error is not None or state.outcome == Outcome.INTERRUPTED:
        print(f"go on with it: {resume_command(folder.path)}")


def _told(error: Exception, config: DictConfig, folder: RunFolder) -> tuple[Outcome, str]:
    """The outcome that an exception means, and what is said of it; the run can be gone on with."""
    failure = failure_of(error, folder.path)
    if isinstance(error, PeerLost):
        failure = Failure(Outcome.CRASHED, str(error), is_ours=False)
    if failure.is_ours:
        traceback.print_exc()
    if not folder.config.is_file():
        resolved = OmegaConf.to_yaml(config, resolve=True)
        write_if_possible(folder.config, lambda: write_whole(folder.config, resolved))
    return failure.outcome, failure.line


def _checkpoint_to_resume(config: DictConfig, folder: RunFolder, world: World) -> tuple[Path | None, RunState]:
    """What the run to resume goes on from, as rank 0 finds it; none for a new run, and for one that never saved any."""
    if config.resume is None:
        return None, RunState()
    found: list[Intact] = []

    def find() -> str | None:
        found.extend(filter(None, [newest_intact(folder.checkpoints, announce)]))
        return str(found[0].path) if found else None

    path = world.from_main(find)
    if path is None:
        return None, RunState()
    return Path(path), found[0].state if found else read_run_state(Path(path))
