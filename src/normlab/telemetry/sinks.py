"""Where the records of a run go. A sink takes what it has a use for, and is closed at the end."""

import re
from pathlib import Path

from normlab.core.records import StepRecord, encode_json
from normlab.telemetry.growing_file import GrowingFile
from normlab.telemetry.hyper_parameters import Ending, HyperParameters


class Sink:
    """One destination of a run's records; what a sink does not override, it has no use for."""

    def begin(self, chosen: HyperParameters) -> None:
        """Take what the run chose, before its first step."""

    def record(self, record: StepRecord) -> None:
        """Take the record of one step."""

    def text(self, tag: str, markdown: str) -> None:
        """Take a text in Markdown under a tag; of plain text, e.g. the configuration, what :func:`fenced` makes."""

    def image(self, tag: str, png: bytes, step: int) -> None:
        """Take a picture of how things stand after a step."""

    def end(self, ending: Ending) -> None:
        """Take how the run ended."""

    def close(self) -> None:
        """Write what is pending and let go of files."""


class NullSink(Sink):
    """Keeps nothing."""

    def __init__(self, folder: Path, first_step: int):
        pass


class JsonLinesSink(Sink):
    """metrics.jsonl: one JSON object a step, readable as soon as the step has ended, the last line always whole."""

    def __init__(self, path: Path):
        self._file = GrowingFile(path)

    def record(self, record: StepRecord) -> None:
        """Append one line."""
        self._file.append((encode_json(record.as_dict()) + "\n").encode())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def fenced(plain: str) -> str:
    """Markdown that shows plain text as it is, lines and spaces too; no run of backticks in it ends the block."""
    longest = max(map(len, re.findall("`+", plain)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{plain}\n{fence}"
