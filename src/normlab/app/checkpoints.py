"""A trained model, from a run folder, one of its checkpoints, or a folder of Hugging Face transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from normlab.app.announce import announce
from normlab.app.build import build_model
from normlab.app.hugging_face.folder import HuggingFaceFolder
from normlab.app.recorded import recorded_config
from normlab.app.saved import HUGGING_FACE
from normlab.app.targets import admitted_packages
from normlab.core.errors import CheckpointError
from normlab.core.run_folder import RunFolder
from normlab.data.tokenizer import Tokenizer, load_tokenizer
from normlab.model.language_model import LanguageModel
from normlab.train.checkpoint import load_checkpoint, shape_of_weight
from normlab.train.intact import find_checkpoint, run_of_checkpoint
from normlab.train.saved_state import run_state_from
from normlab.train.tensors import fill_model, weights_of

EMBEDDING = "token_embedding.weight"


@dataclass(frozen=True)
class Trained:
    """A model with its weights and the tokenizer it was trained with (None for token files).

    ``config`` is the run's configuration, of a model that was made elsewhere the groups model and attention alone;
    that has no run folder and no step.
    """

    model: LanguageModel
    tokenizer: Tokenizer | None
    config: DictConfig
    place: Path
    folder: RunFolder | None
    step: int | None


def load_trained(path: str, device: torch.device) -> Trained:
    """Open ``checkpoint=path``; raises CheckpointError where it is none, ConfigError where it names foreign code."""
    admitted = admitted_packages(HydraConfig.get().overrides.task)
    if path.startswith(HUGGING_FACE):
        return _from_hugging_face(Path(path.removeprefix(HUGGING_FACE)), admitted, device)
    return trained_at(find_checkpoint(Path(path), announce), admitted, device)


def trained_at(checkpoint: Path, admitted: Sequence[str], device: torch.device) -> Trained:
    """The model in a checkpoint of a run, as ``find_checkpoint`` gives it; raises as :func:`load_trained`."""
    folder = RunFolder.existing(run_of_checkpoint(checkpoint), "checkpoint")
    config = recorded_config(folder.config, admitted)
    tokenizer = load_tokenizer(folder.tokenizer) if folder.tokenizer.is_file() else None
    model = build_model(config, vocab_size_in(checkpoint, config), device)
    state = run_state_from(load_checkpoint(checkpoint, model), checkpoint)
    return Trained(model, tokenizer, config, folder.path, folder, state.step)


def _from_hugging_face(path: Path, admitted: list[str], device: torch.device) -> Trained:
    folder = HuggingFaceFolder.open(path)
    config = OmegaConf.create(folder.architecture(admitted))
    weights, tokenizer = folder.weights(), folder.tokenizer()
    vocab_size = len(weights[EMBEDDING]) if EMBEDDING in weights else 0
    if tokenizer is not None and tokenizer.vocab_size > vocab_size:
        raise CheckpointError(
            f"The model in {path} must know every token of its tokenizer, {tokenizer.vocab_size:,}; it knows "
            f"{vocab_size:,}. Name another folder."
        )
    model: LanguageModel = instantiate(config.model)(vocab_size, attention=instantiate(config.attention))
    second_names = model.state_dict().keys() - weights_of(model).keys()  # transformers needs those, too
    fill_model(model, {name: weight for name, weight in weights.items() if name not in second_names}, str(path))
    return Trained(model.to(device), tokenizer, config, path, None, None)


def vocab_size_in(checkpoint: Path, config: DictConfig) -> int:
    """How many tokens the saved model knows; raises CheckpointError where it is not of the configured width."""
    shape = shape_of_weight(checkpoint, EMBEDDING)
    if len(shape) != 2 or shape[1] != config.model.width:
        raise CheckpointError(
            f"{EMBEDDING} in {checkpoint} must be a matrix of model.width={config.model.width} columns. "
            "Choose another checkpoint of the run."
        )
    return shape[0]
