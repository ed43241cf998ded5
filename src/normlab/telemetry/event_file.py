"""TensorBoard's event files, written without a thread: what fails, fails where it is called, and a kill loses nothing.

``SummaryWriter`` keeps up to two minutes of events in memory, and its thread prints a traceback when the disk is full.
"""

import io
import os
import socket
import time
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # type: ignore[attr-defined]  (made when imported)
from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]
from tensorboard.summary.writer.record_writer import RecordWriter

from normlab.telemetry.growing_file import GrowingFile

PATTERN, PREFIX = "events.out.tfevents.*", "events.out.tfevents."


class EventFile:
    """A new event file in ``folder``, read after those that are there; it drops their events from ``purge_step`` on."""

    def __init__(self, folder: Path, purge_step: int | None):
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{PREFIX}{_later_second(folder):010d}.{socket.gethostname()}.{os.getpid()}"
        self._file = GrowingFile(folder / name)
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))
        if purge_step is not None:
            start = SessionLog(status=SessionLog.START)
            self._append(Event(wall_time=time.time(), step=purge_step, session_log=start))

    def add(self, summary: Summary, step: int = 0) -> None:
        """Append an event; it can be read from now on."""
        self._append(Event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _append(self, event: Event) -> None:
        framed = io.BytesIO()
        RecordWriter(framed).write(event.SerializeToString())
        self._file.append(framed.getvalue())


def _later_second(folder: Path) -> int:
    """Now, or the second after the latest file's: files are read in the order of their names, which begin with it."""
    seconds = [path.name.removeprefix(PREFIX).partition(".")[0] for path in folder.glob(PATTERN)]
    return max([int(time.time()), *(int(second) + 1 for second in seconds if second.isdigit())])
