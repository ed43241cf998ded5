"""What a fatal step started from, weights, optimizer, run state and batch: kept in the run folder, and replayed."""

from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn, optim

from normlab.app.build import build_schedule
from normlab.autopsy.finding import FirstNonfinite
from normlab.autopsy.replay import first_nonfinite
from normlab.core.errors import CheckpointError
from normlab.core.files import write_whole
from normlab.core.run_folder import RunFolder
from normlab.model.language_model import LanguageModel
from normlab.train.checkpoint import load_checkpoint, save_checkpoint
from normlab.train.hardware import autocast
from normlab.train.saved_state import run_state_from
from normlab.train.state import RunState
from normlab.train.step import Batch

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


def load_bundle(folder: RunFolder, model: nn.Module, optimizer: optim.Optimizer, device: torch.device) -> Batch:
    """Fill model and optimizer as before the fatal step, and return its batch, on the device."""
    path = checkpoint_in(folder)
    run_state_from(load_checkpoint(path, model, optimizer), path)
    try:
        tokens = load_file(folder.bundle / BATCH)
        batch = Batch(tokens[INPUTS].to(device), tokens[TARGETS].to(device))
    except (OSError, SafetensorError, KeyError):
        raise CheckpointError(
            f"{folder.bundle / BATCH} is missing or damaged, so the fatal step cannot be replayed. Run it again."
        ) from None
    if batch.inputs_BT.dtype != torch.int64 or batch.inputs_BT.shape != batch.targets_BT.shape:
        raise CheckpointError(f"{folder.bundle / BATCH} must hold two arrays of token ids. Run it again.")
    return batch


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
