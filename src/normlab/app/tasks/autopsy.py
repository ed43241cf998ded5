"""task=autopsy: why a run died, once more, from what its folder has kept."""

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from normlab.app.announce import announce, shown_path
from normlab.app.autopsies import Death, write_autopsy
from normlab.app.build import build_model, build_optimizer
from normlab.app.bundle import checkpoint_in, load_bundle, replay
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
        death, model = _death_in(of_run, run_config, Outcome(summary["outcome"]), summary["outcome_step"], device)
        logger = open_logger(run_config, of_run, death.step + 1)
        print(write_autopsy(run_config, of_run, model, death, logger))
        logger.close()
    print(f"written to: {shown_path(of_run.path)}")
    return 0


def _death_in(
    folder: RunFolder, config: DictConfig, outcome: Outcome, step: int, device: torch.device
) -> tuple[Death, LanguageModel]:
    """What is known of a run's death, the fatal step replayed; and its model, as it was drawn."""
    is_fatal_step = outcome == Outcome.NONFINITE
    if is_fatal_step and not checkpoint_in(folder).is_dir():
        raise CheckpointError(
            f"run must name a run that has kept its replay bundle; {folder.path} has none. "
            "Run it again with autopsy.keep_bundle=true."
        )
    checkpoint = checkpoint_in(folder) if is_fatal_step else find_checkpoint(folder.path, announce)
    vocab_size = vocab_size_in(checkpoint, config)
    finding = None
    if is_fatal_step:
        model = build_model(config, vocab_size, device)
        optimizer = build_optimizer(config, model)
        batch = load_bundle(folder, model, optimizer, device)
        finding = replay(config, model, optimizer, batch, step)
    last_records = list(folder.read_recomputed_steps())
    death = Death(
        outcome=outcome,
        step=step,
        what=folder.read_summary()["instabilities"][-1]["what"],
        finding=finding,
        last_records=last_records,
        replayed=f"from the bundle that the run has kept, on {device}" if is_fatal_step else None,
        statistics="what the run itself read, and what it recomputed when it died",
    )
    return death, build_model(config, vocab_size, device)
