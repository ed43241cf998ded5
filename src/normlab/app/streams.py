"""Standard output and error that outlive whoever reads them: a pipe into ``head``, a terminal that was closed."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class LastingStream:
    """A text stream; what cannot be written any more is dropped, and so is all that follows."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or drop."""
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # ValueError: the stream is closed
            self._drop_all()
            return len(text)

    def flush(self) -> None:
        """Hand on what is pending, or drop it."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._drop_all()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop_all(self) -> None:
        """Let the descriptor lead nowhere, so that what is pending does not fail again as Python exits."""
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """While inside, ``sys.stdout`` and ``sys.stderr`` take everything, even where the process has none."""
    for descriptor in range(3):  # one that is closed would be given to the next file that is opened
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    with open(os.devnull, "w") as nowhere:
        sys.stdout, sys.stderr = (LastingStream(stream or nowhere) for stream in before)  # type: ignore[assignment]
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = before
