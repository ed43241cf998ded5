"""What a fatal step started from, weights, optimizer, run state and batch: kept in the run folder, and replayed."""

from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn, optim

from normlab.app.build import build_schedule
from normlab.app.canonical import sequences_per_step
from normlab.autopsy.finding import FirstNonfinite
from normlab.autopsy.replay import first_nonfinite
from normlab.core.errors import CheckpointError
from normlab.core.files import write_whole
from normlab.core.run_folder import RunFolder
from normlab.model.language_model import LanguageModel
from normlab.train.backpropagation import Batch
from normlab.train.checkpoint import load_checkpoint, save_checkpoint
from normlab.train.hardware import autocast
from normlab.train.saved_state import run_state_from
from normlab.train.state import RunState

BATCH = "batch.safetensors"
INPUTS, TARGETS = "inputs", "targets"


def checkpoint_in(folder: RunFolder) -> Path:
    """The bundle's weights, optimizer and run state."""
    return folder.bundle / "before"


def save_bundle(folder: RunFolder, model: nn.Module, optimizer: optim.Optimizer, state: RunState, batch: Batch) -> None:
    """Write the bundle of a step that model, optimizer and state stand before."""
    save_checkpoint(checkpoint_in(folder), model, optimizer, state.as_dict())
    tokens = {INPUTS: batch.inputs_BT.cpu().contiguous(), TARGETS: batch.targets_BT.cpu().contiguous()}
    write_whole(folder.bundle / BATCH, save(tokens))


def load_bundle(folder: RunFolder, config: DictConfig, model: nn.Module, optimizer: optim.Optimizer) -> Batch:
    """Fill model and optimizer as before the fatal step, and return its batch, where the model is.

    Raises CheckpointError for a bundle that is damaged, or that the configured run cannot have left.
    """
    path = checkpoint_in(folder)
    run_state_from(load_checkpoint(path, model, optimizer), path)
    try:
        tokens = load_file(folder.bundle / BATCH)
        inputs_BT, targets_BT = tokens[INPUTS], tokens[TARGETS]
    except (OSError, SafetensorError, KeyError):
        raise CheckpointError(
            f"{folder.bundle / BATCH} is missing or damaged, so the fatal step cannot be replayed. Start the run again."
        ) from None
    shape = (sequences_per_step(config.trainer), config.model.context_length)
    if any(ids.dtype != torch.int64 or tuple(ids.shape) != shape for ids in (inputs_BT, targets_BT)):
        raise CheckpointError(
            f"{folder.bundle / BATCH} must hold two arrays of {shape[0]} rows of {shape[1]} token ids; it does not. "
            "Start the run again."
        )
    device = next(model.parameters()).device
    return Batch(inputs_BT.to(device), targets_BT.to(device))


def replay(
    config: DictConfig, model: LanguageModel, optimizer: optim.Optimizer, batch: Batch, step: int
) -> FirstNonfinite | None:
    """The first non-finite value of a step that model and optimizer stand before."""
    return first_nonfinite(
        model,
        optimizer,
        instantiate(config.loss),
        batch.inputs_BT,
        batch.targets_BT,
        lr=build_schedule(config)(step),
        grad_clip=config.trainer.grad_clip,
        precision=autocast(batch.inputs_BT.device, config.trainer.precision),
    )


def replayed_from(origin: str, config: DictConfig) -> str:
    """From what a step was replayed, in words; whether it was so as the run took it."""
    return f"{origin}, without torch.compile" if config.trainer.compile else origin
