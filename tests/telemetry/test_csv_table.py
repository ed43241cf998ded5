"""metrics.csv, read by pandas and by Python's own reader."""

import csv
import math
from pathlib import Path

import pandas as pd
import pytest
from tests.telemetry.test_sinks import record_of

from normlab.core.records import StepRecord
from normlab.core.run_folder import RunFolder
from normlab.telemetry.csv_table import NAME, CsvSink
from normlab.telemetry.sinks import JsonLinesSink


def take(folder: Path, *records: StepRecord, first_step: int = 1) -> None:
    """The steps as a run takes them: metrics.jsonl first."""
    lines, table = JsonLinesSink(RunFolder(folder).metrics), CsvSink(folder, first_step)
    for record in records:
        lines.record(record)
        table.record(record)
    lines.close()
    table.close()


def rows(folder: Path) -> list[list[str]]:
    with (folder / NAME).open(newline="") as file:
        return list(csv.reader(file))


def test_pandas_reads_every_number_that_is_not_finite(tmp_path: Path) -> None:
    take(tmp_path, record_of(1, train_loss=math.nan, grad_norm=math.inf, val_loss=-math.inf), record_of(2))
    table = pd.read_csv(tmp_path / NAME, index_col="step")
    assert table.index.tolist() == [1, 2]
    assert math.isnan(table.train_loss[1]) and table.grad_norm[1] == math.inf and table.val_loss[1] == -math.inf
    assert table.train_loss[2] == 2.5 and math.isnan(table.val_loss[2])
    assert rows(tmp_path)[1][4] == "NaN" and rows(tmp_path)[2][6] == ""  # not finite, and not measured


def test_the_table_is_whole_after_every_step_and_a_new_statistic_is_the_last_column(tmp_path: Path) -> None:
    table = CsvSink(tmp_path, 1)
    for step in (1, 2, 3, 4):
        measured = {"a/x": 0.5} if step in (2, 4) else {"b/y": 1e-7} if step == 3 else {}
        table.record(record_of(step, telemetry=measured, notes=("one,", 'two "2"\nlines') if step == 2 else ()))
        header, *content = rows(tmp_path)
        assert len(content) == step and {len(row) for row in content} == {len(header)}
    table.close()
    assert header[-3:] == ["notes", "a/x", "b/y"]
    assert [row[-3:] for row in content] == [
        ["", "", ""], ['one, two "2" lines', "0.5", ""], ["", "", "1e-07"], ["", "0.5", ""],
    ]  # fmt: skip


@pytest.mark.parametrize("torn", [False, True])
def test_a_run_that_goes_on_has_no_step_twice(torn: bool, tmp_path: Path) -> None:
    take(tmp_path, *(record_of(step, telemetry={"a/x": float(step)}, notes=("n",)) for step in range(1, 6)))
    if torn:
        path = tmp_path / NAME
        path.write_bytes(path.read_bytes()[:-7])
        (tmp_path / f".{NAME}.abcd1234").write_text("left by a kill")
    RunFolder(tmp_path).forget_metrics_after(3)
    take(tmp_path, *(record_of(step, telemetry={"b/y": 2.0}) for step in range(4, 7)), first_step=4)
    table = pd.read_csv(tmp_path / NAME, index_col="step")
    assert table.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert table["a/x"].dropna().tolist() == [1.0, 2.0, 3.0] and table["b/y"].dropna().index.tolist() == [4, 5, 6]
    assert table.notes.dropna().index.tolist() == [1, 2, 3]
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "metrics.jsonl"]


def test_a_table_that_begins_late_has_the_steps_before(tmp_path: Path) -> None:
    lines = JsonLinesSink(RunFolder(tmp_path).metrics)
    for step in (1, 2):
        lines.record(record_of(step, train_loss=math.nan, telemetry={"a/x": math.inf}))
    lines.close()
    take(tmp_path, record_of(3), first_step=3)
    assert [(row[0], row[4], row[-1]) for row in rows(tmp_path)[1:]] == [
        ("1", "NaN", "Infinity"), ("2", "NaN", "Infinity"), ("3", "2.5", ""),
    ]  # fmt: skip
