"""task=watch: a sweep seen from another terminal, at any time."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.app.killing import AtCall, Runs
from tests.app.planting import before_call
from tests.app.sweeps.sweeping import FATAL, QUICK, SMALL, SWEEP, runs

WATCH = ("task=watch", "sweep=sweep")
PATIENCE_SECONDS = 120
LOOK = "normlab.app.tasks.watch.sleep"


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normlab.app.sweeps.closing.write_report", lambda folder: Path(folder) / "report")


def test_a_finished_sweep(command, text_data, tmp_path: Path) -> None:
    command("--multirun", *SMALL, *FATAL, *text_data)
    before = sorted(tmp_path.rglob("*"))
    said = command(*WATCH)
    assert said.exit_code == 0
    lines = said.out.splitlines()
    assert lines[0].startswith("[1/2] factor=1 ") and "completed, val loss" in lines[0]
    assert lines[1].startswith("[2/2] factor=1e+30 ") and "nonfinite at step 1" in lines[1]
    assert lines[2:] == ["no run is under way", "no process runs this sweep now"]
    assert sorted(tmp_path.rglob("*")) == before, "it leaves nothing behind"


def test_one_that_was_stopped(command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        before_call(patch, "normlab.train.loop.training_step", lambda: os.kill(os.getpid(), signal.SIGTERM), nth=5)
        assert command("--multirun", *SMALL, "seed=0,1,2", *text_data).exit_code == 143
    said = command(*WATCH)
    assert "[1/3] seed=0" in said.out and "[2/3] seed=1" in said.out and "interrupted after 2 steps" in said.out
    assert said.out.endswith("no process runs this sweep now\n")


def test_one_that_was_killed(text_data, tmp_path: Path, command) -> None:
    with Runs() as server:
        death = AtCall("normlab.train.loop.training_step", nth=6)
        assert server.to_the_end(tmp_path, "--multirun", *SMALL, "seed=0,1,2", *text_data, death=death) == -9
    said = command(*WATCH)
    assert said.exit_code == 0
    assert said.out.splitlines()[-3:] == [
        "begun and not ended:", "seed=1  step 2 of 3", "no process runs this sweep now",
    ]  # fmt: skip


def test_one_that_goes_on(command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = ("--multirun", *QUICK, "trainer.steps=1000000", "trainer.checkpoint_every=0", SWEEP, "seed=0,1")
    with Runs() as server:
        process = server.start(tmp_path, *endless, *text_data)
        wait_until(lambda: metrics_of_first(tmp_path / "sweep").count(b"\n") > 2)
        once = command(*WATCH, "follow=false")
        assert once.exit_code == 0
        assert once.out.startswith("under way:\nseed=0  step ") and "no process" not in once.out

        looks = []
        monkeypatch.setattr(LOOK, lambda seconds: (looks.append(seconds), len(looks) == 3 and stop(process)))
        followed = command(*WATCH)
        assert server.wait() == 143
    assert len(looks) >= 3
    assert followed.exit_code == 0
    assert "[1/2] seed=0" in followed.out and "interrupted after" in followed.out
    assert followed.out.endswith("no process runs this sweep now\n")


def stop(process: int) -> None:
    """Ask a process to stop; it does a little later."""
    os.kill(process, signal.SIGTERM)
    threading.Event().wait(0.1)


@pytest.mark.parametrize("wrong", [(), ("sweep=nowhere",), ("sweep=.",)])
def test_a_folder_that_is_no_sweeps_gets_one_line(wrong: tuple[str, ...], command, text_data, tmp_path: Path) -> None:
    said = command("task=watch", *wrong)
    assert said.exit_code == 2
    assert said.err.startswith("error: sweep must ") and said.err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def metrics_of_first(sweep: Path) -> bytes:
    if not (sweep / "sweep.json").is_file():
        return b""
    metrics = runs(sweep)[0].metrics
    return metrics.read_bytes() if metrics.is_file() else b""


def wait_until(is_so) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)
