"""Two processes pointed at one run folder: the second is refused, and the lock dies with its process."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from normlab.app.run_lock import claim, is_being_written, sole_writer
from normlab.core.errors import ConfigError
from normlab.core.run_folder import RunFolder

ENTRY = Path(__file__).resolve().parents[2] / "src" / "run.py"
SMALL = ("model=micro", "tokenizer=bytes", "trainer.val_tokens=256", "schedule.warmup_steps=1", "telemetry=none")
ENDLESS = (*SMALL, "trainer.steps=1000000", "trainer.val_every=1000000", "trainer.checkpoint_every=5")
REFUSED = "another process is writing"
PATIENCE_SECONDS = 120

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts ``python src/run.py`` in the test's folder, in a process that does not outlive the test."""
    processes: list[subprocess.Popen[str]] = []

    def start_one(*arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(ENTRY), *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        processes.append(
            subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, stdout=-1, stderr=subprocess.PIPE)
        )
        return processes[-1]

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()


def wait_for(is_there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_there() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None and is_there()


def num_steps(run: Path) -> int:
    return len(list(RunFolder(run).read_metrics()))


def test_the_second_of_two_processes_is_refused_until_the_first_is_killed(
    start: Start, text_data, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first = start(*ENDLESS, *text_data, "hydra.run.dir=run")
    wait_for(lambda: (run / "checkpoints" / "last").exists(), first)
    notes = (run / ".hydra" / "overrides.yaml").read_bytes()
    os.kill(first.pid, signal.SIGSTOP)
    seen = (run / "metrics.jsonl").read_bytes()
    for arguments in (["resume=run"], [*ENDLESS, *text_data, "hydra.run.dir=run", "seed=1"]):
        second = start(*arguments)
        out, err = second.communicate(timeout=PATIENCE_SECONDS)
        assert second.returncode == 2
        assert out == "" and REFUSED in err.splitlines()[-1] and "Traceback" not in err
        assert err.splitlines()[-1].startswith("error: ")
    assert (run / "metrics.jsonl").read_bytes() == seen
    assert (run / ".hydra" / "overrides.yaml").read_bytes() == notes

    first.kill()
    first.wait()
    before = num_steps(run)
    resumed = start("resume=run")
    wait_for(lambda: num_steps(run) > before, resumed)
    again = start("resume=run")
    assert REFUSED in again.communicate(timeout=PATIENCE_SECONDS)[1]
    assert again.returncode == 2
    resumed.terminate()
    assert resumed.wait(PATIENCE_SECONDS) == 143


def test_a_claim_is_released_on_leaving_and_may_be_made_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    holder = f"from normlab.app.run_lock import *; claim(RunFolder(Path({str(tmp_path)!r}))); print('held')"

    def other_process() -> tuple[int, str]:
        said = subprocess.run([sys.executable, "-c", holder], capture_output=True, text=True, check=False)
        return said.returncode, said.stdout + said.stderr

    claim(folder)
    with sole_writer(folder):
        claim(folder)
        code, said = other_process()
        assert code == 1 and REFUSED in said
    assert other_process() == (0, "held\n")


def test_a_folder_that_cannot_be_locked_is_told(tmp_path: Path) -> None:
    (tmp_path / ".lock").mkdir()
    with pytest.raises(ConfigError, match="must be writable"):
        claim(RunFolder(tmp_path))


def test_a_run_folder_is_not_written_over_by_another_task(command, text_data, tmp_path: Path) -> None:
    assert command(*SMALL, *text_data, "trainer.steps=1", "hydra.run.dir=run").exit_code == 0
    notes = (tmp_path / "run" / ".hydra" / "overrides.yaml").read_bytes()
    for arguments in ([*SMALL, *text_data, "seed=1"], ["task=generate", "checkpoint=run"]):
        said = command(*arguments, "hydra.run.dir=run")
        assert said.exit_code == 2 and "holds a run already" in said.err
    assert (tmp_path / "run" / ".hydra" / "overrides.yaml").read_bytes() == notes


def test_where_a_file_system_has_no_locks_a_file_takes_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_locks(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", without_locks)
    folder = RunFolder(tmp_path)
    with pytest.warns(UserWarning, match="not supported on this filesystem"), sole_writer(folder):
        monkeypatch.setattr("normlab.app.run_lock._held", {})  # as in another process
        assert is_being_written(folder)
        with pytest.raises(ConfigError, match=REFUSED):
            claim(folder)
        monkeypatch.undo()
    assert not is_being_written(folder)
