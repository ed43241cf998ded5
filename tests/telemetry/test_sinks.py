"""Sinks that write nothing, or a line a step."""

import errno
import json
import math
import os
from pathlib import Path

import pytest

from normlab.app.sinks import Sinks
from normlab.core.records import StepRecord
from normlab.core.run_folder import RunFolder
from normlab.telemetry.growing_file import GrowingFile
from normlab.telemetry.sinks import JsonLinesSink, NullSink, fenced


def record_of(step: int, **changes) -> StepRecord:
    values = {"tokens": 32 * step, "seconds": 0.5 * step, "lr": 0.01, "train_loss": 2.5, "grad_norm": 0.75}
    return StepRecord(step=step, **{**values, **changes})


def test_every_record_is_a_line_of_the_file_before_the_next_one_comes(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    sink = JsonLinesSink(folder.metrics)
    for step in (1, 2, 3):
        sink.record(record_of(step))
        assert [record["step"] for record in folder.read_metrics()] == list(range(1, step + 1))
    sink.close()


def test_a_line_is_the_record_with_nonfinite_numbers_named(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    sink = JsonLinesSink(path)
    sink.record(record_of(1, train_loss=math.nan, grad_norm=math.inf, val_loss=-math.inf, telemetry={"probe/é": 1.0}))
    sink.text("config", "a text has a file of its own")
    sink.image("figures/activation_rms", b"a picture has one too", 1)
    sink.close()
    assert [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] == [
        {
            "step": 1,
            "tokens": 32,
            "seconds": 0.5,
            "lr": 0.01,
            "train_loss": "NaN",
            "grad_norm": "Infinity",
            "val_loss": "-Infinity",
            "probe/é": 1.0,
        }
    ]


def test_a_later_sink_adds_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2):
        sink = JsonLinesSink(path)
        sink.record(record_of(step))
        sink.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def test_the_null_sink_leaves_no_files(tmp_path: Path) -> None:
    sink = NullSink(tmp_path / "tensorboard", 1)
    sink.record(record_of(1))
    sink.text("config", "text")
    sink.image("figures/activation_rms", b"png", 1)
    sink.close()
    assert os.listdir(tmp_path) == []


class Closing(NullSink):
    """Notes when it is closed, and may fail then."""

    def __init__(self, name: str, closed: list[str], *, fails: bool = False):
        self.name, self.closed, self.fails = name, closed, fails

    def close(self) -> None:
        self.closed.append(self.name)
        if self.fails:
            raise OSError(f"no space left for {self.name}")


def test_all_sinks_are_closed_the_last_first_though_one_fails() -> None:
    closed: list[str] = []
    sinks = Sinks([Closing("metrics", closed), Closing("figures", closed, fails=True), Closing("console", closed)])
    with pytest.raises(OSError, match="no space left for figures"):
        sinks.close()
    assert closed == ["console", "figures", "metrics"]


class NearlyFullDisk:
    """A file that has room for so many bytes."""

    def __init__(self, path: Path, room: int):
        self.file, self.room = path.open("ab", buffering=0), room

    def write(self, content: memoryview) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = self.file.write(content[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name: str):
        return getattr(self.file, name)


def test_a_line_that_does_not_fit_is_taken_back_and_the_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    growing = GrowingFile(path)
    growing.append(b"first\n")
    growing._file.close()
    growing._file = NearlyFullDisk(path, room=10)  # type: ignore[assignment]
    growing.append(b"second\n")
    with pytest.raises(OSError, match="No space left") as caught:
        growing.append(b"third\n")
    assert caught.value.filename == str(path)
    assert path.read_bytes() == b"first\nsecond\n"
    growing.close()


@pytest.mark.parametrize(("plain", "fence"), [("a\n  b", "```"), ("```\ncode\n```", "````"), ("`", "```")])
def test_a_fence_is_longer_than_any_in_the_text(plain: str, fence: str) -> None:
    assert fenced(plain) == f"{fence}\n{plain}\n{fence}"


def test_a_file_that_was_deleted_takes_no_more(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    growing = GrowingFile(path)
    growing.append(b"first\n")
    path.unlink()
    with pytest.raises(FileNotFoundError, match="No such file") as caught:
        growing.append(b"second\n")
    assert caught.value.filename == str(path)
    growing.close()
