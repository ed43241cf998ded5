"""However one run of a sweep ends, the others go on, and it is shown when it happens and at the end."""

import os
import signal
from pathlib import Path

import pytest
import torch
from tests.app.planting import before_call, planted_error
from tests.app.sweeps.sweeping import FATAL, SMALL, outcomes, runs

pytestmark = pytest.mark.usefixtures("no_report")
STEP = "normlab.train.loop.training_step"
SEEDS = ("--multirun", *SMALL, "seed=0,1,2")


def table_of_failures(out: str) -> list[str]:
    """The lines between the headline and the report."""
    lines = out.splitlines()
    first = lines.index("failed:")
    return [line for line in lines[first + 1 :] if line.startswith("  ")]


@pytest.mark.parametrize(
    ("error", "outcome", "told"),
    [
        (RuntimeError("a planted fault"), "crashed", "RuntimeError: a planted fault"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "out_of_memory", "not enough mem"),
    ],
)
def test_a_crash_is_that_of_one_run(
    error: Exception, outcome: str, told: str, command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted_error(monkeypatch, STEP, error, nth=5)
    said = command(*SEEDS, *text_data)
    assert said.exit_code == 1
    assert outcomes(tmp_path / "sweep") == ["completed", outcome, "completed"]
    shown = [line for line in said.out.splitlines() if line.startswith("[")]
    assert [line.split()[1] for line in shown] == ["seed=0", "seed=1", "seed=2"]
    assert f"{outcome} after 1 steps" in shown[1]
    why, folder = table_of_failures(said.out)
    assert why.startswith(f"  seed=1: {outcome} ({told}")
    assert folder.strip() == f"sweep/{runs(tmp_path / 'sweep')[1].path.name}"
    assert f"3 runs: 2 completed, 1 {outcome}" in said.out
    assert "go on with it: python src/run.py --multirun" in said.out


@pytest.mark.parametrize(
    "place", ["normlab.app.tasks.train.fingerprint_of", "normlab.app.tasks.train.summarise", "hydra.core.utils.run_job"]
)
def test_what_fails_outside_of_the_training_is_that_of_one_run(
    place: str, command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place.endswith("run_job"):
        place = "hydra._internal.core_plugins.basic_launcher.run_job"
    planted_error(monkeypatch, place, RuntimeError("a planted fault"), nth=2)
    said = command(*SEEDS, *text_data)
    assert said.exit_code == 1
    assert [outcome == "completed" for outcome in outcomes(tmp_path / "sweep")] == [True, False, True]
    name = runs(tmp_path / "sweep")[1].path.name
    assert f"error: {name}: RuntimeError: a planted fault\n" in said.err
    assert table_of_failures(said.out)[0] == "  seed=1: RuntimeError: a planted fault"


def test_a_run_that_finds_its_input_gone_is_that_of_one_run(
    command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = tmp_path / "away.txt"
    before_call(monkeypatch, STEP, lambda: (tmp_path / "a.txt").rename(away), nth=3)
    before_call(monkeypatch, "normlab.app.cli._run_task", lambda: away.rename(tmp_path / "a.txt"), nth=3)
    said = command(*SEEDS, *text_data)
    assert said.exit_code == 2
    assert outcomes(tmp_path / "sweep") == ["completed", None, "completed"]
    (why, folder) = table_of_failures(said.out)
    assert why.startswith("  seed=1: ") and "a.txt" in why
    assert "3 runs: 2 completed, 1 not ended" in said.out
    assert not (tmp_path / folder.strip()).exists(), "a run that never began leaves no folder"
    assert command(*SEEDS, *text_data).exit_code == 0
    assert outcomes(tmp_path / "sweep") == ["completed"] * 3


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_sweep(
    number: int, exit_code: int, command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("normlab.app.interrupts.ECHO_SECONDS", 0.0)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    before_call(monkeypatch, STEP, lambda: os.kill(os.getpid(), number), nth=5)
    said = command(*SEEDS, *text_data)
    signal.signal(signal.SIGINT, handler)
    assert said.exit_code == exit_code
    assert outcomes(tmp_path / "sweep")[:2] == ["completed", "interrupted"]
    assert len(list((tmp_path / "sweep").glob("seed=*"))) == 2
    assert "3 runs: 1 completed, 1 interrupted, 1 not ended" in said.out


def test_deaths_are_results(command, text_data, tmp_path: Path) -> None:
    said = command("--multirun", *SMALL, *text_data, "init.scale.factor=1e30", *FATAL[:2], "seed=0,1")
    assert said.exit_code == 0
    assert outcomes(tmp_path / "sweep") == ["nonfinite", "nonfinite"]
    assert "failed" not in said.out and "go on with it" not in said.out


def test_a_report_that_fails_is_told_and_changes_no_exit_code(
    command, text_data, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted_error(monkeypatch, "normlab.app.sweeps.closing.write_report", RuntimeError("a planted fault"))
    said = command("--multirun", *SMALL, *text_data, "seed=0,1")
    assert said.exit_code == 0
    assert (
        "note: the report failed (RuntimeError: a planted fault). Type python src/run.py task=report sweep=" in said.err
    )
