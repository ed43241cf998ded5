"""One writer for a run folder: a second process that is pointed at it is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from normlab.core.errors import ConfigError
from normlab.core.run_folder import RunFolder

_held: dict[Path, FileLock] = {}
PATIENCE_SECONDS = 0.5
"""Longer than anybody takes to look whether a folder is being written, for which the lock is taken for a moment."""


def claim(folder: RunFolder) -> None:
    """Make this process the folder's writer, until it ends or :func:`sole_writer` is left; again changes nothing.

    The operating system frees the lock with the process that has it, however that ends. Raises ConfigError where
    another process has it.
    """
    place = folder.path.resolve()
    if place in _held:
        return
    lock = FileLock(folder.lock)
    try:
        lock.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        raise ConfigError(
            f"A run folder must have one writer; another process is writing {folder.path}. "
            "Wait until it has ended, or name another hydra.run.dir (of a sweep hydra.sweep.dir)."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"A run folder must be writable; {folder.path} is not ({error.strerror or error}). Name another folder."
        ) from None
    _held[place] = lock


def is_being_written(folder: RunFolder) -> bool:
    """Whether a process, this one or another, has the folder."""
    if folder.path.resolve() in _held:
        return True
    if not folder.lock.exists():
        return False
    lock = FileLock(folder.lock)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        return True
    lock.release()
    return False


@contextmanager
def sole_writer(folder: RunFolder) -> Iterator[None]:
    """While inside, no other process can write the folder; raises as :func:`claim`."""
    claim(folder)
    try:
        yield
    finally:
        _held.pop(folder.path.resolve()).release()
