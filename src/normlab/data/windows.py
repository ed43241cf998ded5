"""Windows of tokens: which ones a training step sees, and which ones a validation does.

Shapes: ``B`` batch, ``T`` time.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from normlab.core.seeding import derive_seed

Tokens = NDArray[np.integer]


def training_offsets(num_tokens: int, *, batch_size: int, context_length: int, seed: int, step: int) -> Tokens:
    """Where the windows of a step begin: uniform, with replacement, a function of (seed, step) alone.

    The counter of a Philox generator is set from the step, 2^128 draws apart, so no state has to be kept and
    no two steps overlap.  Salmon et al. 2011.
    """
    generator = np.random.Generator(np.random.Philox(key=derive_seed(seed, "batches"), counter=step << 128))
    return generator.integers(num_tokens - context_length, size=batch_size)


def validation_offsets(num_tokens: int, *, num_windows: int, context_length: int) -> Tokens:
    """Where the windows of a validation begin: always the same, spread evenly over the set, never overlapping.

    All of the set where it holds no more than ``num_windows``.
    """
    available = max(0, (num_tokens - 1) // context_length)
    chosen = np.linspace(0, available, min(num_windows, available), endpoint=False).astype(np.int64)
    return chosen * context_length


def gather(tokens: Tokens, offsets: Tokens, context_length: int) -> tuple[Tokens, Tokens]:
    """The windows at the offsets and, for every token in them, the one that follows: two int64 arrays ``BT``."""
    windows = tokens[offsets[:, None] + np.arange(context_length + 1)].astype(np.int64)
    return windows[:, :-1], windows[:, 1:]


def in_batches(offsets: Tokens, batch_size: int) -> Iterator[Tokens]:
    """The offsets in order, ``batch_size`` at a time; the last part may be shorter."""
    for start in range(0, len(offsets), batch_size):
        yield offsets[start : start + batch_size]
