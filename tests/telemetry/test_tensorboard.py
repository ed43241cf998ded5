"""TensorBoard events, read back by TensorBoard's own reader."""

import math
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from normlab.core.records import StepRecord
from normlab.telemetry.tensorboard import TensorBoardSink

ALWAYS = {"loss/train", "lr", "grad_norm/total", "throughput/tokens_per_second"}


def record_of(step: int, **changes) -> StepRecord:
    values = {"tokens": 100 * step, "seconds": 0.5 * step, "lr": 0.25, "train_loss": 2.5, "grad_norm": 0.75}
    return StepRecord(step=step, **{**values, **changes})


def write(folder: Path, *records: StepRecord, first_step: int = 1, **texts: str) -> None:
    sink = TensorBoardSink(folder, first_step)
    for tag, text in texts.items():
        sink.text(tag, text)
    for record in records:
        sink.record(record)
    sink.close()


def read(folder: Path) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def test_every_scalar_of_a_record_is_there_under_its_tag(tmp_path: Path) -> None:
    write(tmp_path, record_of(1), record_of(2, val_loss=2.75, telemetry={"update_ratio/head": 0.125}))
    assert set(read(tmp_path).Tags()["scalars"]) == ALWAYS | {"loss/val", "update_ratio/head"}
    assert scalars(tmp_path, "loss/train") == [(1, 2.5), (2, 2.5)]
    assert scalars(tmp_path, "lr") == [(1, 0.25), (2, 0.25)]
    assert scalars(tmp_path, "grad_norm/total") == [(1, 0.75), (2, 0.75)]
    assert scalars(tmp_path, "loss/val") == [(2, 2.75)]
    assert scalars(tmp_path, "update_ratio/head") == [(2, 0.125)]


def test_a_validation_loss_of_zero_is_one(tmp_path: Path) -> None:
    write(tmp_path, record_of(1, val_loss=0.0))
    assert scalars(tmp_path, "loss/val") == [(1, 0.0)]


def test_throughput_is_that_of_the_latest_step(tmp_path: Path) -> None:
    write(tmp_path, record_of(1, seconds=0.5), record_of(2, seconds=1.5), record_of(3, seconds=1.75))
    assert scalars(tmp_path, "throughput/tokens_per_second") == [(1, 200.0), (2, 100.0), (3, 400.0)]


def test_a_clock_that_stands_still_gives_no_throughput(tmp_path: Path) -> None:
    write(tmp_path, record_of(1, seconds=0.0), record_of(2, seconds=0.0))
    assert set(read(tmp_path).Tags()["scalars"]) == ALWAYS - {"throughput/tokens_per_second"}


def test_nonfinite_numbers_are_points_too(tmp_path: Path) -> None:
    write(tmp_path, record_of(1, train_loss=math.nan, grad_norm=math.inf, val_loss=-math.inf))
    [(step, train_loss)] = scalars(tmp_path, "loss/train")
    assert step == 1
    assert math.isnan(train_loss)
    assert scalars(tmp_path, "grad_norm/total") == [(1, math.inf)]
    assert scalars(tmp_path, "loss/val") == [(1, -math.inf)]


def test_text_keeps_its_lines_and_spaces_in_a_fenced_block(tmp_path: Path) -> None:
    write(tmp_path, config="model:\n  width: 32\n", sample="é")
    events = read(tmp_path)
    assert set(events.Tags()["tensors"]) == {"config/text_summary", "sample/text_summary"}
    [event] = events.Tensors("config/text_summary")
    assert event.tensor_proto.string_val[0].decode() == "```\nmodel:\n  width: 32\n\n```"


def test_a_resumed_run_replaces_the_steps_that_it_takes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1_000_000_000, 2_000_000_000))
    monkeypatch.setattr("time.time", lambda: float(next(clock)))  # event files are named and read by the second
    write(tmp_path, *(record_of(step, train_loss=1.0) for step in range(1, 6)))
    write(tmp_path, *(record_of(step, train_loss=2.0) for step in range(4, 7)), first_step=4)
    assert scalars(tmp_path, "loss/train") == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0), (6, 2.0)]
