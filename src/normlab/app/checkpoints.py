"""A trained model, from a run folder or one of its checkpoints."""

from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from normlab.app.build import build_model
from normlab.app.targets import admitted_packages, check_targets
from normlab.core.run_folder import RunFolder
from normlab.data.tokenizer import Tokenizer, load_tokenizer
from normlab.model.language_model import LanguageModel
from normlab.train.checkpoint import load_checkpoint, vocab_size_of
from normlab.train.keeper import find_checkpoint, run_of_checkpoint


@dataclass(frozen=True)
class Trained:
    """A model with its weights, the tokenizer it was trained with (None for token files), the configuration."""

    model: LanguageModel
    tokenizer: Tokenizer | None
    config: DictConfig
    folder: RunFolder
    step: int


def load_trained(path: str, device: torch.device) -> Trained:
    """Open ``checkpoint=path``; raises CheckpointError where it is none, ConfigError where it names foreign code."""
    checkpoint = find_checkpoint(Path(path))
    folder = RunFolder.existing(run_of_checkpoint(checkpoint), "checkpoint")
    config = OmegaConf.load(folder.config)
    assert isinstance(config, DictConfig)
    check_targets(config, admitted_packages(HydraConfig.get().overrides.task))
    tokenizer = load_tokenizer(folder.tokenizer) if folder.tokenizer.is_file() else None
    model = build_model(config, vocab_size_of(checkpoint), device)
    state = load_checkpoint(checkpoint, model)
    return Trained(model, tokenizer, config, folder, state["step"])
