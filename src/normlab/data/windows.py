"""Windows of tokens: which ones a training step sees, and which ones a validation does.

Every draw is a function of (seed, step), so that no state has to be kept. The counter of a Philox generator is set
from the step, 2^128 draws apart: no two steps overlap.  Salmon et al. 2011.

Shapes: ``B`` batch, ``T`` time.
"""

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from normlab.core.errors import ConfigError
from normlab.core.seeding import derive_seed

Tokens = NDArray[np.integer]

NUM_PERMUTATION_ROUNDS = 8


class TokenArray(Protocol):
    """Token ids in order, memory-mapped or in memory, one array or many; an index array picks from them."""

    def __len__(self) -> int:
        """How many tokens there are."""
        ...

    def __getitem__(self, positions: NDArray[np.int64], /) -> Tokens:
        """The tokens at the positions, in their shape."""
        ...


def training_offsets(num_tokens: int, *, batch_size: int, context_length: int, seed: int, step: int) -> Tokens:
    """Where the windows of a step begin: uniform over all offsets, with replacement."""
    generator = stream("batches", seed, step)
    return generator.integers(num_tokens - context_length, size=batch_size)


def epoch_offsets(num_tokens: int, *, batch_size: int, context_length: int, seed: int, step: int) -> Tokens:
    """Where the windows of a step begin: every window once an epoch, without replacement. Steps count from 1.

    An epoch cuts the tokens into ``windows_per_epoch`` neighbours, from a phase of its own, and goes through them
    in an order of its own. Batches follow one another without a gap; the next epoch may begin within one.
    """
    num_windows = windows_per_epoch(num_tokens, context_length)
    epochs, indices = np.divmod(np.arange((step - 1) * batch_size, step * batch_size), num_windows)
    offsets = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        generator = stream("epochs", seed, int(epoch))
        keys = generator.integers(0, 1 << 64, size=NUM_PERMUTATION_ROUNDS, dtype=np.uint64)
        phase = generator.integers(min(context_length, num_tokens - num_windows * context_length))
        chosen = epochs == epoch
        offsets[chosen] = phase + context_length * permuted(indices[chosen], num_windows, keys)
    return offsets


def windows_per_epoch(num_tokens: int, context_length: int) -> int:
    """How many windows, each with the token after it, fit at every phase from 0 to T - 1; at least the one at 0."""
    return max(1, (num_tokens - context_length) // context_length)


def permuted(indices: NDArray[np.int64], size: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Where a permutation of 0 to ``size`` - 1, chosen by the keys, takes the indices; memory O(indices).

    An unbalanced Feistel network on (row, column) pairs; what falls outside 0 to ``size`` - 1 goes through again
    (cycle walking).  Black and Rogaway 2002.
    """
    num_rows = math.isqrt(size - 1) + 1
    num_columns = -(-size // num_rows)
    values, outside = indices.astype(np.int64), np.ones(len(indices), bool)
    while outside.any():
        rows, columns = np.divmod(values[outside], num_columns)
        for row_key, column_key in keys.reshape(-1, 2):
            rows = (rows + _hashed(columns, row_key, num_rows)) % num_rows
            columns = (columns + _hashed(rows, column_key, num_columns)) % num_columns
        values[outside] = rows * num_columns + columns
        outside = values >= size
    return values


def part_of_rank(offsets: Tokens, *, rank: int, num_ranks: int) -> Tokens:
    """The rank's share of a global batch: the parts of ranks 0, 1, ... joined are the batch, in order."""
    if len(offsets) % num_ranks:
        raise ConfigError(
            f"trainer.batch_size must be divisible by the number of processes; got {len(offsets)} and {num_ranks}. "
            f"Try trainer.batch_size={-(-len(offsets) // num_ranks) * num_ranks}."
        )
    return offsets.reshape(num_ranks, -1)[rank]


def validation_offsets(num_tokens: int, *, num_windows: int, context_length: int) -> Tokens:
    """Where the windows of a validation begin: always the same, spread evenly over the set, never overlapping.

    All of the set where it holds no more than ``num_windows``.
    """
    available = max(0, (num_tokens - 1) // context_length)
    chosen = np.linspace(0, available, min(num_windows, available), endpoint=False).astype(np.int64)
    return chosen * context_length


def whole_set_offsets(num_tokens: int, *, context_length: int) -> Tokens:
    """Where all windows of a set begin, in order, neighbours; only a last part shorter than one is left out."""
    return np.arange(0, num_tokens - context_length, context_length)


def gather(tokens: TokenArray, offsets: Tokens, context_length: int) -> tuple[Tokens, Tokens]:
    """The windows at the offsets and, for every token in them, the one that follows: two int64 arrays ``BT``."""
    windows = tokens[offsets[:, None] + np.arange(context_length + 1)].astype(np.int64)
    return windows[:, :-1], windows[:, 1:]


def in_batches(offsets: Tokens, batch_size: int) -> Iterator[Tokens]:
    """The offsets in order, ``batch_size`` at a time; the last part may be shorter."""
    for start in range(0, len(offsets), batch_size):
        yield offsets[start : start + batch_size]


def stream(name: str, seed: int, position: int) -> np.random.Generator:
    """The generator of the draws called ``name`` at a step or epoch, whatever was drawn before."""
    return np.random.Generator(np.random.Philox(key=derive_seed(seed, name), counter=position << 128))


def _hashed(values: NDArray[np.int64], key: np.uint64, modulus: int) -> NDArray[np.int64]:
    """The finaliser of SplitMix64 over value ^ key, modulo ``modulus``.  Steele, Lea and Flood 2014."""
    mixed = values.astype(np.uint64) ^ key
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) % np.uint64(modulus)).astype(np.int64)
