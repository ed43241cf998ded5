"""The work before the first step, done once: train a tokenizer, encode the corpus, keep both in a cache folder."""

import hashlib
import io
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Annotated

import numpy as np

from normlab.core.errors import DataError
from normlab.core.files import write_whole
from normlab.core.types import Bounds
from normlab.data.bpe import NUM_BYTES, train_bpe
from normlab.data.source import Source, Split
from normlab.data.tokenizer import END_OF_TEXT, BPETokenizer, ByteTokenizer, Tokenizer
from normlab.data.windows import Tokens

VocabSize = Annotated[int, Bounds(low=NUM_BYTES + 1)]
Announce = Callable[[str], None]
TokenizerFactory = Callable[[Source, Path, Announce], Tokenizer]


@dataclass(frozen=True)
class Corpus:
    """A source as tokens: each document, then the end-of-text token."""

    tokenizer: Tokenizer
    train: Tokens
    valid: Tokens


def prepare_corpus(source: Source, tokenizer_factory: TokenizerFactory, cache: Path, announce: Announce) -> Corpus:
    """Tokenizer and tokens of a source, from the cache where they are there already."""
    tokenizer = tokenizer_factory(source, cache, announce)
    return Corpus(
        tokenizer,
        train=encode_split(source, "train", tokenizer, cache, announce),
        valid=encode_split(source, "valid", tokenizer, cache, announce),
    )


def byte_tokenizer(source: Source, cache: Path, announce: Announce) -> ByteTokenizer:
    """Bytes need no training."""
    return ByteTokenizer()


def bpe_tokenizer(source: Source, cache: Path, announce: Announce, *, vocab_size: VocabSize) -> BPETokenizer:
    """A byte-level BPE of at most ``vocab_size`` tokens, trained on the training split at first use."""
    path = cache / "tokenizers" / (_key(source.identity("train"), str(vocab_size)) + ".json")
    if path.is_file():
        return BPETokenizer.load(path)
    announce(f"Training a tokenizer of {vocab_size:,} tokens (once; kept in {path.parent}).")
    texts = (piece.text for piece in source.pieces("train"))
    vocab, merges = train_bpe(texts, vocab_size=vocab_size, special_tokens=[END_OF_TEXT])
    if len(vocab) < vocab_size:
        announce(f"The corpus has no more than {len(vocab):,} tokens to learn; tokenizer.vocab_size={vocab_size}.")
    tokenizer = BPETokenizer(vocab, merges, [END_OF_TEXT])
    tokenizer.save(path)
    return tokenizer


def encode_split(source: Source, split: Split, tokenizer: Tokenizer, cache: Path, announce: Announce) -> Tokens:
    """The tokens of a split, memory-mapped from the cache, where they are written whole at first use."""
    path = cache / "tokens" / (_key(source.identity(split), tokenizer.identity()) + ".npy")
    if not path.is_file():
        announce(f"Encoding the {split} split (once; kept in {path.parent}).")
        write_whole(path, _as_npy(_encode(source, split, tokenizer), tokenizer.vocab_size))
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, SyntaxError, TokenError) as error:  # the header is a Python literal
        raise DataError(f"{path} is damaged ({error}). Delete it; the next run makes it again.") from None


def _encode(source: Source, split: Split, tokenizer: Tokenizer) -> array:
    tokens = array("I")
    for text, ends_document in source.pieces(split):
        tokens.extend(tokenizer.encode_ordinary(text))
        if ends_document:
            tokens.append(tokenizer.end_of_text)
    return tokens


def _as_npy(tokens: array, vocab_size: int) -> bytes:
    buffer = io.BytesIO()
    dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    np.save(buffer, np.frombuffer(tokens, dtype=np.uint32).astype(dtype), allow_pickle=False)
    return buffer.getvalue()


def _key(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]
