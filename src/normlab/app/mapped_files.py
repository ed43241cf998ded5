"""Token files that are cut while they are memory-mapped: to read what is gone would kill the process (SIGBUS)."""

from collections.abc import Iterator
from errno import ENODATA
from mmap import mmap
from typing import Any

import numpy as np

from normlab.data.mixture import JoinedTokens
from normlab.data.windows import TokenArray


def check_not_cut(tokens: TokenArray) -> None:
    """Raise OSError, by name, where a file is shorter than its map.

    One that was deleted, or replaced by another of its name, stays as it was for whoever has it mapped.
    """
    for mapped, name in _memory_maps(tokens):
        if mapped.size() < len(mapped):
            raise OSError(ENODATA, "it was cut while in use", name)


def _memory_maps(tokens: TokenArray) -> Iterator[tuple[mmap, str]]:
    """The maps that arrays are views of, with the names of their files."""
    if isinstance(tokens, JoinedTokens):
        for part in tokens.arrays:
            yield from _memory_maps(part)
    view: Any = tokens
    while isinstance(view, np.ndarray):
        if isinstance(view, np.memmap) and isinstance(view.base, mmap):
            yield view.base, str(view.filename)
        view = view.base
