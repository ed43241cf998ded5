"""Resuming through the command line: resume=auto, results that stand, checkpoints that are damaged."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from normlab.core.run_folder import RunFolder
from normlab.train.loop import training_records

ENTRY = Path(__file__).resolve().parents[2] / "src" / "run.py"
SMALL = (
    "model=micro", "tokenizer=bytes", "trainer.steps=6", "trainer.val_tokens=256", "schedule.warmup_steps=1",
    "trainer.checkpoint_every=2", "telemetry=none", "logger=none",
)  # fmt: skip
AUTO = "resume=auto"


def runs(folder: Path) -> list[RunFolder]:
    return [RunFolder(path.parent) for path in sorted(folder.glob("outputs/*/*/config.yaml"))]


def losses(run: RunFolder) -> list[tuple]:
    return [(record["step"], record["train_loss"], record.get("val_loss")) for record in run.read_metrics()]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what ``stopped`` has made is kept for the tests that follow; not there at first."""
    return tmp_path_factory.mktemp("stopped") / "kept"


@pytest.fixture
def stopped(command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: Path) -> RunFolder:
    """A run in outputs/ that SIGTERM stopped after step 5; checkpoints 4 and 5."""
    if kept.exists():
        shutil.copytree(kept, tmp_path, symlinks=True, dirs_exist_ok=True)
    else:
        stop_after(5, command, monkeypatch, *SMALL, *text_data)
        shutil.copytree(tmp_path, kept, symlinks=True)
    (run,) = runs(tmp_path)
    return run


def stop_after(step: int, command, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    def interrupted_records(*parts, **settings):
        for record in training_records(*parts, **settings):
            if record.step == step:
                os.kill(os.getpid(), signal.SIGTERM)
            yield record

    with monkeypatch.context() as patch:
        patch.setattr("normlab.app.training.training_records", interrupted_records)
        assert command(*arguments).exit_code == 143


def test_the_same_command_line_goes_on_and_in_the_end_does_nothing(text_data, tmp_path: Path) -> None:
    """Two real processes, the first killed; then a third, as when a scheduler starts a job that had ended."""
    long = ("trainer.steps=200", "trainer.val_every=200", "trainer.checkpoint_every=20")
    arguments = [sys.executable, str(ENTRY), *SMALL, *text_data, *long, AUTO]
    first = subprocess.Popen(arguments, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while first.poll() is None and not list(tmp_path.glob("outputs/*/*/checkpoints/last")):
        time.sleep(0.02)
    first.kill()
    assert "has no run of this experiment yet" in first.communicate()[1]
    (run,) = runs(tmp_path)
    assert not run.summary.exists()
    said = []
    for _ in range(2):
        again = subprocess.run(arguments, cwd=tmp_path, text=True, capture_output=True, check=False)
        assert again.returncode == 0, again.stderr
        said.append((again.stdout, again.stderr))
    assert f"resume=auto: going on with {run.path.relative_to(tmp_path)}" in said[0][1]
    assert f"{run.path.relative_to(tmp_path)} has a result" in said[1][1]
    assert [record["step"] for record in run.read_metrics()] == list(range(1, 201))
    assert runs(tmp_path) == [run]


def test_it_goes_on_with_the_newest_run_of_the_same_experiment_alone(
    command, text_data, stopped: RunFolder, tmp_path: Path
) -> None:
    other = command(*SMALL, *text_data, AUTO, "seed=1")
    assert other.exit_code == 0 and "yet" in other.err
    assert len(runs(tmp_path)) == 2 and len(list(stopped.read_metrics())) == 5
    older = stopped.path.with_name("00-00-00")
    shutil.copytree(stopped.path, older, symlinks=True)

    said = command(*SMALL, *text_data, AUTO)
    assert said.exit_code == 0
    assert stopped.read_summary()["outcome"] == "completed"
    assert len(losses(stopped)) == 6 and len(losses(RunFolder(older))) == 5
    assert command(*SMALL, *text_data, "hydra.run.dir=whole").exit_code == 0
    assert losses(stopped) == losses(RunFolder(tmp_path / "whole"))

    said = command(*SMALL, *text_data, AUTO)  # the newest has its result, whatever older ones have
    assert said.exit_code == 0 and "has a result" in said.err
    assert len(losses(RunFolder(older))) == 5


def test_a_folder_that_is_given_is_the_only_one_looked_at(
    command, text_data, stopped: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (*SMALL, *text_data, AUTO, "hydra.run.dir=mine")
    stop_after(3, command, monkeypatch, *given)
    assert len(list(stopped.read_metrics())) == 5
    said = command(*given)
    assert said.exit_code == 0 and "going on with mine" in said.err
    assert len(losses(RunFolder(tmp_path / "mine"))) == 6
    said = command(*given)
    assert said.exit_code == 0 and "mine has a result" in said.err
    said = command(*given, "seed=1")
    assert said.exit_code == 2 and "holds a run already" in said.err


@pytest.mark.parametrize("outcome", ["crashed", "out_of_memory", "interrupted", None])
def test_what_is_no_result_is_gone_on_with(command, stopped: RunFolder, outcome: str | None) -> None:
    if outcome is None:
        stopped.summary.unlink()
    else:
        stopped.write_summary({**stopped.read_summary(), "outcome": outcome})
    assert command(f"resume={stopped.path}").exit_code == 0
    assert stopped.read_summary()["outcome"] == "completed"


@pytest.mark.parametrize("outcome", ["completed", "diverged", "nonfinite"])
def test_a_result_stands(command, stopped: RunFolder, outcome: str) -> None:
    stopped.write_summary({**stopped.read_summary(), "outcome": outcome})
    before = stopped.metrics.read_bytes()
    said = command(f"resume={stopped.path}")
    assert said.exit_code == 0 and outcome in said.out
    assert stopped.metrics.read_bytes() == before


def test_a_damaged_checkpoint_is_fallen_back_from_to_the_same_result(
    command, text_data, stopped: RunFolder, tmp_path: Path
) -> None:
    assert command(*SMALL, *text_data, "hydra.run.dir=whole").exit_code == 0
    (stopped.checkpoints / "step_5" / "optimizer.safetensors").write_bytes(b"")
    said = command("task=generate", f"checkpoint={stopped.path}")
    assert said.exit_code == 0 and "Falling back to step_4." in said.err
    said = command(f"resume={stopped.path}")
    assert said.exit_code == 0
    assert "step_5/optimizer.safetensors is missing or was altered. Falling back to step_4." in said.err
    assert losses(stopped) == losses(RunFolder(tmp_path / "whole"))


def test_without_any_intact_checkpoint_nothing_is_resumed_or_written(command, stopped: RunFolder) -> None:
    for path in stopped.checkpoints.glob("step_*"):
        (path / "manifest.json").write_text("{")
    before = {path: path.read_bytes() for path in stopped.path.rglob("*") if path.is_file()}
    for arguments in ([f"resume={stopped.path}"], ["task=evaluate", f"checkpoint={stopped.path}"]):
        said = command(*arguments)
        assert said.exit_code == 2
        assert "No checkpoint in" in said.err and "Traceback" not in said.err
    assert {path: path.read_bytes() for path in stopped.path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", None])
def test_damaged_notes_of_a_run_are_told_in_one_line(command, stopped: RunFolder, content: bytes | None) -> None:
    for path in (stopped.path / ".hydra" / "overrides.yaml", stopped.config):
        before = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        for arguments in ([f"resume={stopped.path}"], ["task=generate", f"checkpoint={stopped.path}"]):
            said = command(*arguments)
            assert "Traceback" not in said.err
            assert said.exit_code == (2 if "resume" in arguments[0] or path == stopped.config else 0), said.err
            assert said.exit_code == 0 or said.err.splitlines()[-1].startswith("error: ")
        path.write_bytes(before)


def test_resume_auto_is_for_one_training(command) -> None:
    said = command("--multirun", AUTO, "seed=0,1")
    assert said.exit_code == 2 and "resume continues one run" in said.err
    said = command("task=inspect", AUTO)
    assert said.exit_code == 2 and "task=train" in said.err


def test_only_looking_at_the_configuration_looks_for_no_run(command, stopped: RunFolder) -> None:
    said = command(*SMALL, AUTO, "--cfg", "job")
    assert said.exit_code == 0 and "resume: auto" in said.out and said.err == ""


def test_a_run_that_ended_before_its_first_step_can_be_resumed(
    command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments, **keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("normlab.app.build.build_model", killed)
        patch.setattr(RunFolder, "discard_if_unused", lambda folder: None)  # a killed process cleans nothing up
        assert command(*SMALL, *text_data, "hydra.run.dir=run").exit_code == 130
    assert not (tmp_path / "run" / "config.yaml").exists()
    assert command("resume=run").exit_code == 0
    assert len(losses(RunFolder(tmp_path / "run"))) == 6
