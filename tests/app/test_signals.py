"""SIGINT, SIGTERM and SIGHUP wherever a run may be: what it leaves, how it goes on, what the scheduler is told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.app.planting import before_call

from normlab.app.interrupts import ECHO_SECONDS, StopRequest
from normlab.core.run_folder import RunFolder
from normlab.train.checkpoint import read_state

SMALL = ("model=micro", "tokenizer=bytes", "trainer.steps=6", "trainer.val_tokens=256", "schedule.warmup_steps=1")
OFTEN = ("trainer.val_every=2", "trainer.checkpoint_every=2", "logger=none", "telemetry=none")
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
RUN_PY = Path(__file__).resolve().parents[2] / "src" / "run.py"


@pytest.fixture(autouse=True)
def as_in_a_shell() -> Iterator[None]:
    """SIGINT and SIGHUP may be ignored where the tests themselves run in the background."""
    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def signal_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sends this process a signal within the nth call of a function."""

    def plant(function: str, number: int, *, nth: int = 1) -> None:
        before_call(monkeypatch, function, lambda: os.kill(os.getpid(), number), nth=nth)

    return plant


def run_in(folder: Path, name: str) -> RunFolder:
    return RunFolder(folder / name)


@pytest.mark.parametrize("number", EXIT_CODES)
@pytest.mark.parametrize(
    ("phase", "last_step"),
    [("normlab.train.loop.training_step", 1), ("normlab.train.loop.validation_loss", 2)],
)
def test_the_step_is_finished_and_saved(
    phase: str, last_step: int, number: signal.Signals, command, text_data, tmp_path: Path, signal_in
) -> None:
    signal_in(phase, number)
    said = command(*SMALL, *OFTEN, *text_data, "hydra.run.dir=cut")
    assert said.exit_code == EXIT_CODES[number]
    assert f"interrupted: stopped after {last_step} steps" in said.out
    assert "resume=cut" in said.out
    cut = run_in(tmp_path, "cut")
    assert cut.read_summary()["outcome"] == "interrupted"
    assert [record["step"] for record in cut.read_metrics()] == list(range(1, last_step + 1))
    assert ("val_loss" in list(cut.read_metrics())[-1]) == (phase.endswith("validation_loss"))
    assert read_state(cut.checkpoints / "last")["step"] == last_step


def test_a_checkpoint_that_is_being_written_is_written_whole(command, text_data, tmp_path: Path, signal_in) -> None:
    signal_in("normlab.train.checkpoint._sha256", signal.SIGTERM, nth=2)
    assert command(*SMALL, *OFTEN, *text_data, "hydra.run.dir=cut").exit_code == 143
    cut = run_in(tmp_path, "cut")
    assert read_state(cut.checkpoints / "best")["step"] == 2
    assert read_state(cut.checkpoints / "last")["step"] == 2
    assert not list(cut.checkpoints.glob(".*"))
    assert command("resume=cut").exit_code == 0
    assert [record["step"] for record in cut.read_metrics()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_in_the_preparation_of_data_nothing_is_left_behind(
    number: signal.Signals, command, text_data, tmp_path: Path, signal_in
) -> None:
    signal_in("normlab.data.tokenizer.ByteTokenizer.encode_documents", number)
    said = command(*SMALL, *text_data)
    assert said.exit_code == EXIT_CODES[number]
    assert "type the same command again to go on" in said.err
    assert "Traceback" not in said.err
    assert not list(tmp_path.glob("outputs/*/*"))
    assert command(*SMALL, *text_data).exit_code == 0


def test_in_the_final_sampling_the_run_is_completed_and_the_sweep_ends(
    command, text_data, tmp_path: Path, signal_in
) -> None:
    signal_in("normlab.data.tokenizer.ByteTokenizer.decode", signal.SIGTERM)
    said = command("--multirun", "seed=0,1", *SMALL, *OFTEN, *text_data, "hydra.sweep.dir=sweep")
    assert said.exit_code == 143
    [run] = [RunFolder(path.parent) for path in tmp_path.glob("sweep/*/metrics.jsonl")]
    assert run.read_summary()["outcome"] == "completed"
    assert run.samples.is_file()


def test_a_sweep_ends_as_a_whole_and_its_finished_runs_stay(command, text_data, tmp_path: Path, signal_in) -> None:
    signal_in("normlab.train.loop.validation_loss", signal.SIGTERM, nth=4)
    said = command("--multirun", "seed=0,1,2", *SMALL, *OFTEN, *text_data, "hydra.sweep.dir=sweep")
    assert said.exit_code == 143
    assert "3 runs: 1 completed, 1 interrupted, 1 not ended" in said.out
    assert len(list(tmp_path.glob("sweep/seed=*"))) == 2


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    stop = StopRequest()
    with stop.listening():
        os.kill(os.getpid(), signal.SIGHUP)
    assert stop.signal_number is None


WAITS_IN_VALIDATION = """
import sys, time
from normlab.app.cli import main
from normlab.train import loop
def wait(*_):
    print("validating", flush=True)
    time.sleep(600)
loop.validation_loss = wait
sys.exit(main())
"""


def started(*arguments: str, folder: Path) -> subprocess.Popen[str]:
    """A process of its own, in which SIGINT is not ignored."""
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )


def said_by(process: subprocess.Popen[str], wanted: str) -> None:
    """Read what the process says until some line has the wanted words."""
    stream = process.stdout if wanted == "validating" else process.stderr
    assert stream is not None
    for line in stream:
        if wanted in line:
            return
    raise AssertionError(f"the process never said {wanted!r}")


def test_a_real_interrupt_of_a_real_process(text_data, tmp_path: Path) -> None:
    steps = ("trainer.steps=100000", "trainer.checkpoint_every=0", "trainer.val_every=100000", "logger=none")
    process = started(str(RUN_PY), *SMALL, *text_data, *steps, "hydra.run.dir=cut", folder=tmp_path)
    metrics = run_in(tmp_path, "cut").metrics
    while process.poll() is None and not (metrics.is_file() and metrics.read_bytes().count(b"\n") > 3):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted: stopped after" in out
    assert "Traceback" not in err
    cut = run_in(tmp_path, "cut")
    assert read_state(cut.checkpoints / "last")["step"] == cut.read_summary()["steps"] == len(list(cut.read_metrics()))


def test_a_second_real_interrupt_does_not_wait_for_the_step(text_data, tmp_path: Path) -> None:
    arguments = (*SMALL, *text_data, "trainer.val_every=2", "logger=none", "hydra.run.dir=cut")
    process = started("-c", WAITS_IN_VALIDATION, *arguments, folder=tmp_path)
    said_by(process, "validating")
    process.send_signal(signal.SIGINT)
    time.sleep(2 * ECHO_SECONDS)
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "interrupted: stopped after 1 steps" in out
    assert "Traceback" not in err
    assert run_in(tmp_path, "cut").read_summary()["outcome"] == "interrupted"
