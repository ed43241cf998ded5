"""task=generate: continue a prompt with a trained model."""

import sys

import torch
from omegaconf import DictConfig

from normlab.app.checkpoints import load_trained
from normlab.core.errors import CheckpointError
from normlab.core.run_folder import RunFolder
from normlab.core.seeding import derive_seed
from normlab.model.sampling import Sampler, sample_text
from normlab.train.hardware import choose_device


def generate(config: DictConfig, folder: RunFolder, *, checkpoint: str, prompt: str, sampler: Sampler) -> int:
    """Print the prompt and what the model makes of it; the text depends on the seed alone."""
    trained = load_trained(checkpoint, choose_device(config.trainer.device))
    if trained.tokenizer is None:
        raise CheckpointError(f"{trained.place} has no tokenizer, so it writes no text. Name another.")
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "sample"))
    try:
        print(sample_text(trained.model, trained.tokenizer, prompt, sampler, generator))
    except FloatingPointError as error:
        raise CheckpointError(f"{error} Choose an earlier checkpoint than {trained.place}.") from None
    sys.stdout.flush()
    return 0
