"""task=watch: a sweep that runs elsewhere, seen from this terminal."""

import sys
from pathlib import Path
from shutil import get_terminal_size
from time import sleep

from omegaconf import DictConfig

from normlab.app.run_lock import is_being_written
from normlab.app.sweeps.live import LiveSweep
from normlab.core.errors import ConfigError
from normlab.core.run_folder import RunFolder
from normlab.report.recorded_plan import PLAN

LOOK_SECONDS = 1.0
CLEAR_LINE = "\r\033[K"


def watch(config: DictConfig, folder: RunFolder, *, sweep: str, follow: bool) -> int:
    """Print a line for every run that has ended and what is under way, until the sweep ends; then what is left.

    With ``follow=false`` only once. Raises ConfigError where the folder is no sweep's.
    """
    path = Path(sweep)
    if not (path / PLAN).is_file():
        raise ConfigError(
            f"sweep must name the folder of a sweep (one with a {PLAN}); got '{sweep}'. "
            "Type sweep=multirun/<date>/<time>."
        )
    live = LiveSweep(path)
    while _is_going_on(path) and follow:
        _show(live)
        sleep(LOOK_SECONDS)
    _show(live)
    under_way = live.under_way()
    title = "under way:" if _is_going_on(path) else "begun and not ended:"
    print("\n".join([title, *under_way]) if under_way else "no run is under way")
    if not _is_going_on(path):
        print("no process runs this sweep now")
    return 0


def _is_going_on(path: Path) -> bool:
    return is_being_written(RunFolder(path))


def _show(live: LiveSweep) -> None:
    """New ends as lines; below them, on a terminal, what is under way as a line that is replaced."""
    is_terminal = sys.stderr.isatty()
    lines = list(live.look())
    if is_terminal:
        print(CLEAR_LINE, end="", file=sys.stderr, flush=True)
    for line in lines:
        print(line, flush=True)
    if is_terminal:
        status = "; ".join([*live.under_way(), live.time_left()])
        print(status[: get_terminal_size().columns - 1], end="", file=sys.stderr, flush=True)
