"""Lines for the person who waits."""

import re
import sys
from contextlib import suppress
from pathlib import Path


def announce(line: str) -> None:
    """Say a line on standard error, so that standard output keeps results alone; nobody may be there to read it."""
    if sys.stderr is not None:  # a process may be started without one
        with suppress(OSError, ValueError):
            print(f"{line}\n", end="", file=sys.stderr, flush=True)  # in one piece, whatever interrupts


def shown_path(path: Path) -> str:
    """A path as short as the working folder allows."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def resume_command(folder: Path) -> str:
    """What to type to go on with a run; the names of a sweep's folders have an equals sign, which wants quotes."""
    path = shown_path(folder)
    is_plain = re.fullmatch(r"[\w./-]+", path) is not None
    return f"python src/run.py resume={path}" if is_plain else f"python src/run.py \"resume='{path}'\""
