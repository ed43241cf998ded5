"""Sweeps on a cluster: what SLURM is told, and what becomes of jobs that it preempts."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.app.sweeps.sweeping import QUICK, SWEEP

from normlab.app.sweeps.plan import SweepPlan
from normlab.core.run_folder import RunFolder

pytest.importorskip("submitit")
ROOT = Path(__file__).resolve().parents[3]
FAKE = Path(__file__).with_name("fake_slurm.py")
STEPS = 800
"""So many that a signal comes in their midst, and few enough for some seconds."""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the stand-in for SLURM keeps its notes in; its commands are found first."""
    programs, notes = tmp_path / "bin", tmp_path / "slurm"
    notes.mkdir()
    programs.mkdir()
    for name in ("sbatch", "srun", "sacct", "scontrol", "scancel"):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE}" {name} "$@"\n')
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(notes))
    return notes


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 120) -> None:
    """Until it has happened; fails where the process ends before, or much time has gone."""
    limit = time.monotonic() + seconds
    while not happened():
        assert process.poll() is None and time.monotonic() < limit, "it did not happen"
        time.sleep(0.05)


def num_steps(run: RunFolder) -> int:
    return run.metrics.read_bytes().count(b"\n") if run.metrics.is_file() else 0


def test_a_preempted_run_is_queued_again_and_goes_on(cluster: Path, text_data, tmp_path: Path) -> None:
    asked = ["--multirun", *QUICK, *text_data, f"trainer.steps={STEPS}", "seed=0,1", SWEEP]
    asked += ["hydra/launcher=slurm", "hydra.launcher.timeout_min=30"]
    launched = [sys.executable, str(ROOT / "src/run.py"), *asked]
    sweep = subprocess.Popen(launched, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (tmp_path / "sweep/sweep.json").is_file(), sweep)
    first = runs(tmp_path)[0]
    wait_for(lambda: num_steps(first) > 50, sweep)
    subprocess.run(["scancel", "101_0", "--signal", "USR2"], check=True)
    wait_for(lambda: first.summary.is_file(), sweep)
    stopped_after = first.read_summary()["steps"]
    out, err = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, err

    script = (cluster / "script.sh").read_text()
    for line in ("--array=0-1%2", "--signal=USR2@120", "--time=30", "--requeue"):
        assert f"#SBATCH {line}\n" in script
    assert 50 < stopped_after < STEPS
    for run in runs(tmp_path):
        assert run.read_summary()["outcome"] == "completed"
        assert [record["step"] for record in run.read_metrics()] == list(range(1, STEPS + 1))
    assert "2 runs" in out


def test_the_tasks_of_a_job_are_the_devices_of_one_run(cluster: Path, text_data, tmp_path: Path) -> None:
    asked = ["--multirun", *QUICK, *text_data, "trainer=ddp", "trainer.steps=3", "seed=0,1", SWEEP]
    asked += ["hydra/launcher=slurm", "hydra.launcher.tasks_per_node=2", "hydra.launcher.timeout_min=30"]
    launched = [sys.executable, str(ROOT / "src/run.py"), *asked]
    said = subprocess.run(launched, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert said.returncode == 0, said.stderr
    assert "#SBATCH --ntasks-per-node=2\n" in (cluster / "script.sh").read_text()
    for run in runs(tmp_path):
        assert run.read_summary()["outcome"] == "completed"
        assert run.read_summary()["hardware"]["num_devices"] == 2
        assert [record["step"] for record in run.read_metrics()] == [1, 2, 3]


def runs(folder: Path) -> list[RunFolder]:
    return [run.folder for run in SweepPlan.read(folder / "sweep").runs(folder / "sweep")]
