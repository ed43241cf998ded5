"""A sweep's folder has one process at a time that writes it, and is looked at without harm."""

import os
import signal
import time
from pathlib import Path

from tests.app.killing import Runs
from tests.app.sweeps.sweeping import QUICK, SWEEP, runs

from normlab.app.run_lock import is_being_written
from normlab.core.run_folder import RunFolder

PATIENCE_SECONDS = 120
ENDLESS = ("--multirun", *QUICK, "trainer.steps=1000000", "trainer.checkpoint_every=0", SWEEP)


def test_the_second_is_refused_and_changes_nothing(command, text_data, tmp_path: Path) -> None:
    with Runs() as server:
        process = server.start(tmp_path, *ENDLESS, "seed=0,1", *text_data)
        wait_for_steps(tmp_path / "sweep")
        plan = (tmp_path / "sweep" / "sweep.json").read_bytes()
        said = command(*ENDLESS, "seed=1,2", *text_data)
        assert said.exit_code == 2
        assert said.err.startswith("error: A run folder must have one writer; another process is writing sweep.")
        assert "hydra.sweep.dir" in said.err and said.err.count("\n") == 1
        assert (tmp_path / "sweep" / "sweep.json").read_bytes() == plan
        assert is_being_written(RunFolder(tmp_path / "sweep"))
        os.kill(process, signal.SIGTERM)
        assert server.wait() == 143
    assert not is_being_written(RunFolder(tmp_path / "sweep"))


def wait_for_steps(sweep: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ((sweep / "sweep.json").is_file() and runs(sweep)[0].metrics.is_file()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
