"""The work before the first step, done once: train a tokenizer, encode the corpus, keep both in a cache folder.

However many processes ask for the same thing at the same time, one makes it and the others wait.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Annotated

from tqdm import tqdm

from normlab.core.errors import DataError
from normlab.core.types import Bounds
from normlab.data.bpe.exchange import read_hugging_face, read_tiktoken
from normlab.data.bpe.merging import NUM_BYTES
from normlab.data.bpe.trainer import train_bpe
from normlab.data.disk import Announce, prepared_once
from normlab.data.foreign_tokens import TokenFiles
from normlab.data.mix import MixedSource
from normlab.data.mixture import Mixture
from normlab.data.source import Piece, Source, Split
from normlab.data.store import TokenStore
from normlab.data.store_writer import Block, stored_once
from normlab.data.tokenizer import END_OF_TEXT, BPETokenizer, ByteTokenizer, Tokenizer, load_tokenizer
from normlab.data.windows import TokenArray

VocabSize = Annotated[int, Bounds(low=NUM_BYTES + 1)]
TokenizerFactory = Callable[[Source, Path, Announce], Tokenizer]
BLOCK_CHARACTERS = 1 << 20


@dataclass(frozen=True)
class Corpus:
    """What a run draws from: tokens of both splits, and the tokenizer where there is one.

    ``num_valid_bytes`` is the length in UTF-8 of the text that the validation tokens encode, None where the data came
    as tokens.
    """

    tokenizer: Tokenizer | None
    vocab_size: int
    train: TokenArray
    valid: TokenArray
    num_valid_bytes: int | None = None
    mixture: Mixture | None = None


def prepare_corpus(
    data: Source | TokenFiles, tokenizer_factory: TokenizerFactory, cache: Path, announce: Announce
) -> Corpus:
    """Tokenizer and tokens of the data, from the cache where they are there already."""
    if isinstance(data, TokenFiles):
        return Corpus(data.tokenizer, data.vocab_size, data.tokens("train"), data.tokens("valid"))
    tokenizer = tokenizer_factory(data, cache, announce)
    if isinstance(data, MixedSource):
        train_stores, valid_stores = (
            [encode_split(part, split, tokenizer, cache, announce) for part in data.parts]
            for split in ("train", "valid")
        )
        train, valid = (
            Mixture([store.tokens for store in stores], data.weights) for stores in (train_stores, valid_stores)
        )
        num_bytes = _num_bytes(valid_stores)
        return Corpus(tokenizer, tokenizer.vocab_size, train.tokens, valid.tokens, num_bytes, mixture=train)
    train_store = encode_split(data, "train", tokenizer, cache, announce)
    valid_store = encode_split(data, "valid", tokenizer, cache, announce)
    num_bytes = _num_bytes([valid_store])
    return Corpus(tokenizer, tokenizer.vocab_size, train_store.tokens, valid_store.tokens, num_bytes)


def _num_bytes(stores: Sequence[TokenStore]) -> int:
    """The length of the documents that the stores encode; end-of-text tokens stand for none of it."""
    return sum(store.facts["num_bytes"] for store in stores)


def byte_tokenizer(source: Source, cache: Path, announce: Announce) -> ByteTokenizer:
    """Bytes need no training."""
    return ByteTokenizer()


def tokenizer_file(source: Source, cache: Path, announce: Announce, *, path: str) -> Tokenizer:
    """A tokenizer from a file: this project's, Hugging Face's ``tokenizer.json``, or tiktoken's ranks (``.tiktoken``).

    tiktoken's file names no special tokens: ``<|endoftext|>`` gets the lowest id that no rank has.
    """
    if not Path(path).is_file():
        raise DataError(f"tokenizer.path must name a tokenizer file; '{path}' is not there. Check the path.")
    if path.endswith(".tiktoken"):
        ranks = {line.split()[-1] for line in Path(path).read_bytes().splitlines() if line.strip()}
        free = next(number for number in count() if str(number).encode() not in ranks)
        return read_tiktoken(path, {END_OF_TEXT: free})
    try:
        return read_hugging_face(path) if b'"model"' in Path(path).read_bytes() else load_tokenizer(path)
    except DataError as error:
        raise DataError(
            "tokenizer.path must name normlab's JSON, Hugging Face's tokenizer.json or a .tiktoken file of ranks; "
            f"{error}"
        ) from None


def bpe_tokenizer(source: Source, cache: Path, announce: Announce, *, vocab_size: VocabSize) -> BPETokenizer:
    """A byte-level BPE of at most ``vocab_size`` tokens, trained on the training split at first use."""
    path = cache / "tokenizers" / (_key(source.identity("train"), str(vocab_size)) + ".json")

    def load() -> BPETokenizer | None:
        if not path.is_file():
            return None
        try:
            return BPETokenizer.load(path)
        except DataError as error:
            raise DataError(f"{path} was cut or edited. Delete it; the next run makes it again.") from error

    def make() -> BPETokenizer:
        pieces = source.pieces("train")  # may have to be fetched first
        announce(f"Training a tokenizer of {vocab_size:,} tokens (once; kept in {path.parent}).")
        tokenizer = _train(pieces, vocab_size)
        if tokenizer.vocab_size < vocab_size:
            announce(f"The corpus fills {tokenizer.vocab_size:,} tokens of tokenizer.vocab_size={vocab_size}.")
        tokenizer.save(path)
        return tokenizer

    return prepared_once(path, load, make, announce)


def encode_split(source: Source, split: Split, tokenizer: Tokenizer, cache: Path, announce: Announce) -> TokenStore:
    """The tokens of a split: each document, then the end-of-text token; written at first use."""
    path = cache / "tokens" / (_key(source.identity(split), tokenizer.identity()) + ".bin")

    def blocks_from(first: int) -> Iterator[Block]:
        blocks = _blocks(source.pieces(split))  # may have to be fetched first
        if first == 0:
            announce(f"Encoding the {split} split (once; kept in {path.parent}).")
        else:
            announce(f"Going on with encoding the {split} split, after {first * BLOCK_CHARACTERS:,} characters.")
        with _bar(f"encoding {split}", "B") as bar:
            for block, ids in tokenizer.encode_documents(islice(blocks, first, None), num_threads=_num_cores()):
                num_bytes = sum(len(text.encode()) for text, _ in block)
                bar.update(num_bytes)
                yield Block(ids, {"num_documents": sum(ends for _, ends in block), "num_bytes": num_bytes})

    return stored_once(
        path,
        blocks_from,
        vocab_size=tokenizer.vocab_size,
        source_identity=source.identity(split),
        tokenizer_identity=tokenizer.identity(),
        announce=announce,
    )


def _train(pieces: Iterable[Piece], vocab_size: int) -> BPETokenizer:
    with _bar("counting", "characters") as counting, _bar("merging", "merges", total=vocab_size) as merging:
        vocab, merges = train_bpe(
            (piece.text for piece in pieces),
            vocab_size=vocab_size,
            special_tokens=[END_OF_TEXT],
            num_processes=_num_cores(),
            on_count=lambda num_characters: _show(counting, num_characters),
            on_merge=lambda num_merges: _show(merging, num_merges),
        )
    return BPETokenizer(vocab, merges, [END_OF_TEXT])


def _blocks(pieces: Iterable[Piece]) -> Iterator[Sequence[Piece]]:
    """The pieces, about a million characters at a time."""
    block: list[Piece] = []
    num_characters = 0
    for piece in pieces:
        block.append(piece)
        num_characters += len(piece.text)
        if num_characters >= BLOCK_CHARACTERS:
            yield block
            block, num_characters = [], 0
    if block:
        yield block


def _bar(description: str, unit: str, total: int | None = None) -> tqdm:
    """A progress bar on a terminal, nothing elsewhere."""
    return tqdm(desc=description, unit=unit, unit_scale=True, total=total, leave=False, disable=None)


def _show(bar: tqdm, reached: int) -> None:
    bar.update(reached - bar.n)


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _key(*parts: str) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:16]
