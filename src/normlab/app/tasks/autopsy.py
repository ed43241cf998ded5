"""task=autopsy: why a run died, once more, from what its folder has kept."""

from typing import NamedTuple

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from normlab.app.announce import announce, shown_path
from normlab.app.autopsies import Death, write_autopsy
from normlab.app.build import build_model, build_optimizer
from normlab.app.bundle import checkpoint_in, load_bundle, replay, replayed_from
from normlab.app.checkpoints import vocab_size_in
from normlab.app.recorded import recorded_config
from normlab.app.run_lock import sole_writer
from normlab.app.sinks import open_logger
from normlab.app.targets import admitted_packages
from normlab.core.errors import CheckpointError, ConfigError
from normlab.core.records import Outcome
from normlab.core.run_folder import RunFolder
from normlab.model.language_model import LanguageModel
from normlab.train.hardware import choose_device
from normlab.train.intact import find_checkpoint

DEATHS = (Outcome.NONFINITE, Outcome.DIVERGED)


def autopsy(config: DictConfig, folder: RunFolder, *, run: str) -> int:
    """Replay the fatal step of the run's bundle, tell the story from what was read, write and say both anew.

    A run that diverged had no fatal step: its story is told alone.
    """
    of_run = RunFolder.existing(run, "run")
    summary = of_run.read_summary()
    if summary.get("outcome") not in DEATHS:
        raise ConfigError(
            f"run must name a run that ended nonfinite or diverged; {run} "
            f"{'ended ' + str(summary['outcome']) if summary else 'has not ended'}. Name another."
        )
    device = choose_device(config.trainer.device)
    run_config = recorded_config(of_run.config, admitted_packages(HydraConfig.get().overrides.task))
    with sole_writer(of_run):
        death, model = _death_in(of_run, run_config, _end_in(of_run), device)
        logger = open_logger(run_config, of_run, death.step + 2)  # past the ending, which stays
        print(write_autopsy(run_config, of_run, model, death, logger))
        logger.close()
    print(f"written to: {shown_path(of_run.path)}")
    return 0


class _End(NamedTuple):
    """What the summary says of how a run died."""

    outcome: Outcome
    step: int
    what: str


def _end_in(folder: RunFolder) -> _End:
    summary = folder.read_summary()
    try:
        end = _End(Outcome(summary["outcome"]), summary["outcome_step"], summary["instabilities"][-1]["what"])
    except (LookupError, TypeError, ValueError):
        end = None
    if end is None or type(end.step) is not int or end.step < 1 or not isinstance(end.what, str):
        raise CheckpointError(f"{folder.summary} must say at which step the run died and why. Start the run again.")
    return end


def _death_in(folder: RunFolder, config: DictConfig, end: _End, device: torch.device) -> tuple[Death, LanguageModel]:
    """What is known of a run's death, the fatal step replayed; and its model, as it was drawn."""
    is_fatal_step = end.outcome == Outcome.NONFINITE
    if is_fatal_step and not checkpoint_in(folder).is_dir():
        raise CheckpointError(
            f"run must name a run that has kept its replay bundle; {folder.path} has none. "
            "Run it again with autopsy.keep_bundle=true."
        )
    checkpoint = checkpoint_in(folder) if is_fatal_step else find_checkpoint(folder.path, announce)
    vocab_size = vocab_size_in(checkpoint, config)
    finding = replayed = None
    if is_fatal_step:
        model = build_model(config, vocab_size, device)
        optimizer = build_optimizer(config, model)
        batch = load_bundle(folder, config, model, optimizer)
        finding = replay(config, model, optimizer, batch, end.step)
        replayed = replayed_from(f"from the bundle that the run has kept, on {device}", config)
    last_records = list(folder.read_recomputed_steps())
    death = Death(
        outcome=end.outcome,
        step=end.step,
        what=end.what,
        finding=finding,
        last_records=last_records,
        replayed=replayed,
        statistics="what the run itself read" + (", and what it recomputed when it died" if last_records else ""),
    )
    return death, build_model(config, vocab_size, torch.device("cpu"))
