"""task=tokenize: train the tokenizer and encode the corpus, without training a model."""

from itertools import product
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig

from normlab.app.announce import announce
from normlab.core.errors import ConfigError
from normlab.core.run_folder import RunFolder
from normlab.data.bpe.exchange import write_hugging_face, write_tiktoken
from normlab.data.foreign_tokens import TokenFiles
from normlab.data.mix import MixedSource
from normlab.data.prepare import encode_split
from normlab.data.source import Source, Split
from normlab.data.tokenizer import BPETokenizer, Tokenizer


def tokenize(config: DictConfig, folder: RunFolder, *, export: str | None) -> int:
    """Prepare the cache that every later run shares, say what is in it, and export the tokenizer where asked."""
    cache = Path(config.cache)
    source: Source | TokenFiles = instantiate(config.data)
    if isinstance(source, TokenFiles):
        raise ConfigError("data=tokens is tokens already: there is nothing to tokenize. Leave out task=tokenize.")
    tokenizer: Tokenizer = instantiate(config.tokenizer)(source, cache, announce)
    if export is not None:
        _export(tokenizer, Path(export))
    print(f"tokenizer: {tokenizer.vocab_size:,} tokens")
    splits: tuple[Split, ...] = ("train", "valid")
    parts = source.parts if isinstance(source, MixedSource) else [source]
    for split, part in product(splits, parts):
        store = encode_split(part, split, tokenizer, cache, announce)
        num_documents = store.facts["num_documents"]
        bytes_per_token = store.facts["num_bytes"] / max(1, len(store.tokens))
        print(
            f"{split}: {len(store.tokens):,} tokens of {num_documents:,} document{'s' * (num_documents != 1)}, "
            f"{bytes_per_token:.2f} bytes a token, in {store.path}"
        )
    return 0


def _export(tokenizer: Tokenizer, folder: Path) -> None:
    if not isinstance(tokenizer, BPETokenizer):
        raise ConfigError("Only a BPE tokenizer can be exported; got tokenizer=bytes. Type tokenizer=bpe.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(folder / "normlab.json")
        write_hugging_face(tokenizer, folder / "tokenizer.json")
        write_tiktoken(tokenizer, folder / "tokenizer.tiktoken")
    except OSError as error:
        raise ConfigError(
            f"export must be a folder that can be written; {folder} cannot ({error.strerror}). Name another one."
        ) from None
    print(f"exported to: {folder} (normlab.json, tokenizer.json for Hugging Face, tokenizer.tiktoken)")
