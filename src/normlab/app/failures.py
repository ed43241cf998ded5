"""From an exception that ended a run to its outcome and one line: what happened, to which file, and what to do."""

import os
import re
from collections.abc import Callable
from errno import EACCES, EDQUOT, EIO, EMFILE, ENFILE, ENODATA, ENOENT, ENOMEM, ENOSPC, EPERM, EROFS, ESTALE
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError

from normlab.app.announce import announce, shown_path
from normlab.core.records import Outcome

FULL, NO_RIGHT, TOO_MANY_FILES = (ENOSPC, EDQUOT), (EROFS, EACCES, EPERM), (EMFILE, ENFILE)
UNREADABLE = (EIO, ESTALE)
OUT_OF_MEMORY = re.compile(
    "can't allocate memory|not enough memory|out of memory|ALLOC_FAILED|Storage size calculation overflowed",
    re.IGNORECASE,
)
"""What torch's allocators and CUDA's libraries say in a plain RuntimeError."""
AMOUNT = re.compile(r"tried to allocate ([\d.]+ ?[a-z]+)", re.I)
RUST_ERRNO = re.compile(r"\(os error (\d+)\)")
"""How safetensors, whose errors are a class of their own, tells what the operating system said."""


class Failure(NamedTuple):
    """``is_ours`` where nobody foresaw the error, so that a traceback is worth showing."""

    outcome: Outcome
    line: str
    is_ours: bool


def failure_of(error: Exception, folder: Path | str = "the run's folder") -> Failure:
    """What ended a run whose files are in ``folder``, which is named where the error names no file."""
    system_error = _system_error(error)
    if _is_out_of_memory(error, system_error):
        return Failure(Outcome.OUT_OF_MEMORY, _memory_line(error), is_ours=False)
    line = None if system_error is None else _file_line(system_error, folder)
    if line is not None:
        return Failure(Outcome.CRASHED, line, is_ours=False)
    return Failure(Outcome.CRASHED, " ".join(f"{type(error).__name__}: {error}".split()), is_ours=True)


def write_if_possible(path: Path, write: Callable[[], None]) -> None:
    """Write a file that says how a run ended; where even that fails, say so, for the runs after this one go on."""
    try:
        write()
    except OSError as error:
        announce(f"note: {shown_path(path)} could not be written ({error.strerror}).")


def _system_error(error: Exception) -> OSError | None:
    if isinstance(error, OSError):
        return error
    told = RUST_ERRNO.search(str(error)) if isinstance(error, SafetensorError) else None
    return None if told is None else OSError(int(told[1]), os.strerror(int(told[1])))


def _file_line(error: OSError, folder: Path | str) -> str | None:
    file = folder if error.filename is None else error.filename
    if error.errno in FULL:
        return f"the disk is full: no more could be written to {file}. Free some space."
    if error.errno in NO_RIGHT:
        return f"{file} cannot be written or read ({error.strerror}). Make it writable for this user."
    if error.errno in TOO_MANY_FILES:
        return "too many files are open. Type ulimit -n 4096 first."
    if error.errno == ENOENT and error.filename is not None:
        return f"{file} is gone. Put it back."
    if error.errno == ENODATA:
        return f"{file} is not what it was ({error.strerror}). Put it back."
    if error.errno in UNREADABLE:
        return f"{file} could not be read or written ({error.strerror}). Check the disk."
    return None


def _is_out_of_memory(error: Exception, system_error: OSError | None) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if system_error is not None:
        return system_error.errno == ENOMEM
    return isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(str(error)) is not None


def _memory_line(error: Exception) -> str:
    amount = AMOUNT.search(str(error))
    asked = "" if amount is None else f": {_readable(amount[1])} more could not be had"
    told = f": {error}" if isinstance(error, MemoryError) and str(error) else asked
    return f"not enough memory{told}. Try a smaller trainer.batch_size, model.context_length or model.width."


def _readable(amount: str) -> str:
    number, _, unit = amount.partition(" ")
    return f"{float(number) / 1e9:,.1f} GB" if unit == "bytes" else amount
