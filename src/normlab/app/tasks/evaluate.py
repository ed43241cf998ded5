"""task=evaluate: the validation loss of a trained model, on any data."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig

from normlab.app.announce import announce
from normlab.app.build import check_length, validation_batches
from normlab.app.canonical import plain
from normlab.app.checkpoints import load_trained
from normlab.app.validate import DATA_OF_CHECKPOINT
from normlab.core.errors import DataError
from normlab.core.records import encode_json
from normlab.core.run_folder import RunFolder
from normlab.data.foreign_tokens import TokenFiles
from normlab.data.prepare import encode_split
from normlab.data.source import Source
from normlab.model.loss import plain_loss
from normlab.train.backpropagation import Backpropagation
from normlab.train.evaluate import validation_loss
from normlab.train.hardware import autocast, choose_device


def evaluate(config: DictConfig, folder: RunFolder, *, checkpoint: str) -> int:
    """Print the loss over the whole validation split, and add it to a run folder's evaluations.jsonl."""
    device = choose_device(config.trainer.device)
    trained = load_trained(checkpoint, device)
    uses_own_data = config.data._target_ == DATA_OF_CHECKPOINT
    if uses_own_data and "data" not in trained.config:
        raise DataError(f"{trained.place} does not say what it was trained on. Type data=stories or data=text.")
    source: Source | TokenFiles = instantiate(trained.config.data if uses_own_data else config.data)
    if isinstance(source, TokenFiles):
        if source.vocab_size > trained.model.vocab_size:
            raise DataError(
                f"The token files must be of the model's vocabulary of {trained.model.vocab_size:,}; they are of "
                f"{source.vocab_size:,}. Name files that the model's own tokenizer has written."
            )
        tokens = source.tokens("valid")
    elif trained.tokenizer is None:
        raise DataError(f"{trained.place} has no tokenizer for text. Type data=tokens data.valid=<token file>.")
    else:
        tokens = encode_split(source, "valid", trained.tokenizer, Path(config.cache), announce).tokens
    context_length = trained.model.context_length
    check_length(tokens, "valid", context_length)
    batches = validation_batches(
        tokens, len(tokens), context_length, batch_size=config.trainer.batch_size, device=device
    )
    precision = autocast(device, config.trainer.precision)
    passes = Backpropagation(trained.model, plain_loss, precision=precision, compile=False)
    loss = validation_loss(passes.cross_entropy, batches)

    name = "its own data" if uses_own_data else f"data={HydraConfig.get().runtime.choices['data']}"
    after = "" if trained.step is None else f" (step {trained.step})"
    print(f"validation loss {loss:.4f} nats per token over {len(tokens):,} tokens of {name}{after}")
    if trained.folder is not None:
        data = plain(trained.config.data if uses_own_data else config.data)
        result = {"checkpoint_step": trained.step, "data": data, "tokens": len(tokens), "val_loss": loss}
        with trained.folder.evaluations.open("a", encoding="utf-8") as file:
            file.write(encode_json(result) + "\n")
        print(f"recorded in: {trained.folder.evaluations}")
    return 0


class DataOfCheckpoint:
    """Stands for the data that the checkpoint was trained on (``data=from_checkpoint``)."""
