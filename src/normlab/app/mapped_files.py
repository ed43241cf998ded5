"""Token files that are cut while they are memory-mapped: to read what is gone would kill the process (SIGBUS)."""

from collections.abc import Iterator
from errno import ENODATA
from mmap import mmap

import numpy as np

from normlab.data.mixture import JoinedTokens
from normlab.data.windows import TokenArray


def check_not_cut(tokens: TokenArray) -> None:
    """Raise OSError, by name, where a file is shorter than its map.

    One that was deleted, or replaced by another of its name, stays as it was for whoever has it mapped.
    """
    for mapped in _memory_maps(tokens):
        held: object = mapped.base
        if isinstance(held, mmap) and held.size() < len(held):
            raise OSError(ENODATA, "it was cut while in use", str(mapped.filename))


def _memory_maps(tokens: TokenArray) -> Iterator[np.memmap]:
    if isinstance(tokens, JoinedTokens):
        for array in tokens._arrays:
            yield from _memory_maps(array)
    array = tokens if isinstance(tokens, np.ndarray) else None
    while array is not None:
        if isinstance(array, np.memmap) and isinstance(array.base, mmap):
            yield array
        array = array.base if isinstance(array.base, np.ndarray) else None
