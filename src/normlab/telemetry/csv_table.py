"""metrics.csv: a row a step, for spreadsheets and pandas; the columns are called as in metrics.jsonl."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from normlab.core.files import clear_leftovers, write_whole
from normlab.core.records import StepRecord, encode_json
from normlab.telemetry.growing_file import GrowingFile
from normlab.telemetry.past_records import FIELDS, past_records
from normlab.telemetry.sinks import Sink

NAME = "metrics.csv"


class CsvSink(Sink):
    """At any time a whole table: rows of the same width under one header, the last one complete, steps in order.

    What a step did not measure is empty; what is not finite is NaN, Infinity or -Infinity. A statistic that is read for
    the first time becomes the last column, and the file is replaced by one that has it. The rows of earlier steps are
    those of metrics.jsonl, so that those of ``first_step`` and later, from an earlier try, are dropped.
    """

    def __init__(self, folder: Path, first_step: int):
        self._path = folder / NAME
        clear_leftovers(folder, re.escape(NAME))
        self._columns = list(FIELDS)
        past = partial(past_records, folder, after=-1, before=first_step)
        for record in past():
            self._columns += self._lacking(record.as_dict())
        self._replace(_cells(record.as_dict(), self._columns) for record in past())

    def record(self, record: StepRecord) -> None:
        """Add a row."""
        row = record.as_dict()
        if lacking := self._lacking(row):
            self._widen(lacking)
        self._file.append(_lines([_cells(row, self._columns)]).encode())

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _lacking(self, row: Mapping[str, Any]) -> list[str]:
        known = set(self._columns)
        return [name for name in row if name not in known]

    def _widen(self, names: Sequence[str]) -> None:
        """Add columns, empty in the rows so far."""
        self._file.close()
        with self._path.open(newline="", encoding="utf-8") as file:
            _, *rows = csv.reader(file)
        self._columns += names
        self._replace(row + [""] * len(names) for row in rows)

    def _replace(self, rows: Iterable[Sequence[str]]) -> None:
        write_whole(self._path, _lines([self._columns, *rows]))
        self._file = GrowingFile(self._path)


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    return [_cell(row[name]) if name in row else "" for name in columns]


def _cell(value: Any) -> str:
    """A number as metrics.jsonl has it, without quotes; of several texts one line."""
    return " ".join(" ".join(value).split()) if isinstance(value, tuple) else encode_json(value).strip('"')


def _lines(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
