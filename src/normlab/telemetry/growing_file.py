"""A file that grows by whole pieces."""

import os
from contextlib import suppress
from errno import ENOENT
from pathlib import Path


class GrowingFile:
    """Appends pieces, each handed to the operating system at once: a killed process has lost none of them.

    A piece that does not fit is taken back, so that the file ends in a whole one. Raises OSError with the file's name,
    also where the file was deleted, and the pieces would be lost with it.
    """

    def __init__(self, path: Path):
        self._path = path
        self._file = path.open("ab", buffering=0)
        self._counts_links = self._num_links() > 0  # not every file system does

    def append(self, piece: bytes) -> None:
        """Add all of a piece, or nothing."""
        if self._counts_links and self._num_links() == 0:
            raise FileNotFoundError(ENOENT, os.strerror(ENOENT), str(self._path))
        end = self._file.seek(0, os.SEEK_END)
        rest = memoryview(piece)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BaseException as error:
            with suppress(OSError):
                self._file.truncate(end)
            if isinstance(error, OSError):
                error.filename = str(self._path)
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _num_links(self) -> int:
        """How many names the open file has left."""
        return os.fstat(self._file.fileno()).st_nlink
