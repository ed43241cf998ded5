"""A trained model, from a run folder or one of its checkpoints."""

from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from normlab.app.announce import announce
from normlab.app.build import build_model
from normlab.app.recorded import recorded_config
from normlab.app.targets import admitted_packages
from normlab.core.errors import CheckpointError
from normlab.core.run_folder import RunFolder
from normlab.data.tokenizer import Tokenizer, load_tokenizer
from normlab.model.language_model import LanguageModel
from normlab.train.checkpoint import load_checkpoint, shape_of_weight
from normlab.train.intact import find_checkpoint, run_of_checkpoint
from normlab.train.saved_state import run_state_from

EMBEDDING = "token_embedding.weight"


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
    checkpoint = find_checkpoint(Path(path), announce)
    folder = RunFolder.existing(run_of_checkpoint(checkpoint), "checkpoint")
    config = recorded_config(folder.config, admitted_packages(HydraConfig.get().overrides.task))
    tokenizer = load_tokenizer(folder.tokenizer) if folder.tokenizer.is_file() else None
    model = build_model(config, vocab_size_in(checkpoint, config), device)
    state = run_state_from(load_checkpoint(checkpoint, model), checkpoint)
    return Trained(model, tokenizer, config, folder, state.step)


def vocab_size_in(checkpoint: Path, config: DictConfig) -> int:
    """How many tokens the saved model knows; raises CheckpointError where it is not of the configured width."""
    shape = shape_of_weight(checkpoint, EMBEDDING)
    if len(shape) != 2 or shape[1] != config.model.width:
        raise CheckpointError(
            f"{EMBEDDING} in {checkpoint} must be a matrix of model.width={config.model.width} columns. "
            "Choose another checkpoint of the run."
        )
    return shape[0]
