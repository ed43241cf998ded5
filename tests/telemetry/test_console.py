"""What a person sees: a bar on a terminal, some ten plain lines elsewhere."""

import math
import os
import re
import sys
import termios
from contextlib import suppress

import pytest

from normlab.core.records import StepRecord
from normlab.telemetry.console import ConsoleSink


def record_of(step: int, **changes) -> StepRecord:
    values = {"tokens": 1_000 * step, "seconds": 0.5 * step, "lr": 0.01, "train_loss": 2.5, "grad_norm": 0.75}
    return StepRecord(step=step, **{**values, **changes})


def run(total_steps: int, first_step: int = 1, **changes) -> None:
    sink = ConsoleSink(total_steps, first_step)
    for step in range(first_step, total_steps + 1):
        sink.record(record_of(step, **changes))
    sink.text("sample", "text is for files")
    sink.close()


def plain_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, *arguments, **changes) -> str:
    """What :func:`run` shows on a terminal of 120 columns."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 120))
    with monkeypatch.context() as patch, os.fdopen(theirs, "w") as terminal:
        patch.setattr(sys, "stderr", terminal)
        run(*arguments, **changes)
    shown = b""
    with os.fdopen(ours, "rb", buffering=0) as screen, suppress(OSError):  # EIO: the other end has said all
        while part := screen.read(100_000):
            shown += part
    return shown.decode()


def test_plain_lines_have_losses_speed_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    run(4)
    assert plain_lines(capsys) == [
        "step 1/4  train loss 2.500, 2,000 tokens/s, 2 s left",
        "step 2/4  train loss 2.500, 2,000 tokens/s, 1 s left",
        "step 3/4  train loss 2.500, 2,000 tokens/s, 0 s left",
        "step 4/4  train loss 2.500, 2,000 tokens/s, 0 s left",
    ]


@pytest.mark.parametrize(("total_steps", "num_lines"), [(1, 1), (9, 9), (10, 10), (600, 10), (605, 11)])
def test_there_are_about_ten_plain_lines_and_one_for_the_last_step(
    capsys: pytest.CaptureFixture[str], total_steps: int, num_lines: int
) -> None:
    run(total_steps)
    lines = plain_lines(capsys)
    assert len(lines) == num_lines
    assert lines[-1].startswith(f"step {total_steps}/{total_steps} ")


def test_the_latest_validation_loss_stays_in_view(capsys: pytest.CaptureFixture[str]) -> None:
    sink = ConsoleSink(3, 1)
    for step, val_loss in ((1, None), (2, 0.0), (3, None)):
        sink.record(record_of(step, val_loss=val_loss))
    sink.close()
    assert [re.findall(r"val loss [\d.]+", line) for line in plain_lines(capsys)] == [
        [],
        ["val loss 0.000"],
        ["val loss 0.000"],
    ]


def test_no_time_and_no_finite_loss_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    run(1, seconds=0.0, train_loss=math.nan, val_loss=math.inf)
    assert plain_lines(capsys) == ["step 1/1  train loss nan, val loss inf, 0 s left"]


def test_a_terminal_shows_a_bar_that_ends_full(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_a_terminal(monkeypatch, 20)
    last = shown.strip().rpartition("\r")[2]
    assert last.startswith("100%|")
    assert "| 20/20 [" in last
    assert last.endswith(", train loss 2.500, 2,000 tokens/s]")


def test_the_bar_of_a_resumed_run_begins_where_the_run_did(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_a_terminal(monkeypatch, 20, 16)
    assert "| 15/20 [" in shown
    assert "| 20/20 [" in shown
    assert "| 0/20 [" not in shown


def test_the_bar_needs_no_time_to_have_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_a_terminal(monkeypatch, 1, seconds=0.0, train_loss=math.nan)
    assert shown.strip().endswith(", train loss nan]")


def test_notes_are_lines_of_their_own(capsys: pytest.CaptureFixture[str]) -> None:
    sink = ConsoleSink(100, 1)
    sink.record(record_of(7, notes=("loss spike of 5.31, recovered", "logits grow")))
    sink.close()
    assert plain_lines(capsys) == ["note: step 7: loss spike of 5.31, recovered", "note: step 7: logits grow"]


def test_notes_stand_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = on_a_terminal(monkeypatch, 2, notes=("a spike",))
    lines = [line.rpartition("\r")[2] for line in shown.replace("\r\n", "\n").split("\n")]
    assert lines[:2] == ["note: step 1: a spike", "note: step 2: a spike"]
    assert lines[2].startswith("100%|")
