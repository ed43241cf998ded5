"""What comes from outside: full and read-only disks, files that vanish, too little memory, nobody who listens.

The run says on one line what happened and what to do, keeps what it has written, and can be gone on with; a sweep
goes on with its next run.
"""

import errno
import os
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from tests.app.planting import before_call, planted_error

from normlab.core.run_folder import RunFolder

SMALL = ("model=micro", "tokenizer=bytes", "trainer.steps=4", "trainer.val_tokens=256", "schedule.warmup_steps=1")
QUICK = (*SMALL, "logger=none", "telemetry=none", "trainer.checkpoint_every=1")
APPEND = "normlab.telemetry.growing_file.GrowingFile.append"
WRITE_SUMMARY = "normlab.core.run_folder.RunFolder.write_summary"


def disk_error(number: int, name: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), name)


DISASTERS = {
    "metrics, disk full": (APPEND, disk_error(errno.ENOSPC, "metrics.jsonl"), "crashed", "to metrics.jsonl"),
    "weights, disk full": (
        "normlab.train.checkpoint.save_file",
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        "crashed",
        "the disk is full",
    ),
    "checkpoint, quota": ("normlab.train.keeper.save_checkpoint", disk_error(errno.EDQUOT), "crashed", "disk is full"),
    "checkpoint, read-only": ("normlab.train.keeper.save_checkpoint", disk_error(errno.EROFS), "crashed", "Read-only"),
    "step, no memory": ("normlab.train.loop.training_step", MemoryError(), "out_of_memory", "trainer.batch_size"),
    "step, no memory on CUDA": (
        "normlab.train.loop.training_step",
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of …"),
        "out_of_memory",
        "20.00 GiB",
    ),
    "validation, no memory": (
        "normlab.train.loop.validation_loss",
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123000000000 bytes"),
        "out_of_memory",
        "123.0 GB",
    ),
}


@pytest.mark.parametrize("disaster", DISASTERS)
def test_the_run_ends_with_its_reason_and_the_sweep_goes_on(
    disaster: str, command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, error, outcome, reason = DISASTERS[disaster]
    planted_error(monkeypatch, function, error, nth=1 if "validation" in disaster else 3)
    said = command("--multirun", "seed=0,1", *QUICK, *text_data, "hydra.sweep.dir=sweep")
    assert said.exit_code == 1
    assert "Traceback" not in said.err
    assert f"2 runs: 1 {outcome}, 1 completed" in said.out
    [hit] = [run for run in runs_in(tmp_path / "sweep") if run.read_summary()["outcome"] == outcome]
    told = hit.read_summary()["error"]
    assert reason in told
    assert len(told.splitlines()) == 1
    assert told in said.out
    [typed] = re.findall("python src/run.py (.*)", said.out)

    said = command(*shlex.split(typed))
    assert said.exit_code == 0, said.err
    assert [record["step"] for record in hit.read_metrics()] == [1, 2, 3, 4]
    assert hit.read_summary()["outcome"] == "completed"
    assert hit.read_summary()["error"] is None


def test_where_the_summary_does_not_fit_either_it_is_said_and_the_sweep_goes_on(
    command, text_data, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted_error(monkeypatch, APPEND, disk_error(errno.ENOSPC), nth=3)
    planted_error(monkeypatch, WRITE_SUMMARY, disk_error(errno.ENOSPC))
    said = command("--multirun", "seed=0,1", *QUICK, *text_data, "hydra.sweep.dir=sweep")
    assert said.exit_code == 1
    assert "Traceback" not in said.err
    assert "summary.json could not be written (No space left on device)" in said.err
    assert "2 runs: 1 crashed, 1 completed" in said.out


def test_a_folder_that_may_not_be_written(command, text_data, tmp_path: Path) -> None:
    checkpoints = tmp_path / "run" / "checkpoints"
    checkpoints.mkdir(parents=True)
    checkpoints.chmod(0o500)
    if os.access(checkpoints, os.W_OK):
        pytest.skip("who runs the tests may write everywhere")
    said = command(*QUICK, *text_data, "hydra.run.dir=run")
    checkpoints.chmod(0o700)
    assert said.exit_code == 1
    assert "Traceback" not in said.err
    assert "checkpoints" in said.out and "Make it writable" in said.out
    assert command("resume=run").exit_code == 0


def test_a_model_that_is_far_too_large_can_be_gone_on_with_elsewhere(command, text_data, tmp_path: Path) -> None:
    said = command("--multirun", "model.width=32,20000000", *SMALL, *text_data, "hydra.sweep.dir=sweep")
    assert said.exit_code == 1
    assert "2 runs: 1 completed, 1 out_of_memory" in said.out
    assert "weights and gradients take" in said.out
    assert "Traceback" not in said.err
    [hit] = [run for run in runs_in(tmp_path / "sweep") if run.read_summary()["outcome"] == "out_of_memory"]
    assert command(f"resume='{hit.path}'").exit_code == 1  # as little memory as before, and no other complaint


@pytest.mark.parametrize("name", ["text", "tokens"])
def test_token_files_that_are_deleted_or_cut_while_training(
    name: str, command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = text_data
    if name == "tokens":
        for split in ("train", "valid"):
            np.arange(5000, dtype="<u2").__mod__(256).tofile(tmp_path / f"{split}.bin")
        data = ("data=tokens", "data.train=train.bin", "data.valid=valid.bin", "data.tokenizer=256")
    options = [text for text in QUICK if name == "text" or not text.startswith("tokenizer")]

    def stored() -> list[Path]:
        return [tmp_path / "train.bin"] if name == "tokens" else list(tmp_path.glob("data/tokens/*.bin"))

    before_call(monkeypatch, "normlab.train.loop.validation_loss", lambda: [path.unlink() for path in stored()])
    said = command(*options, *data, "trainer.val_every=1", "hydra.run.dir=deleted")
    assert said.exit_code == 0, said.err  # a deleted file stays with whoever has it open

    if name == "tokens":
        np.arange(5000, dtype="<u2").__mod__(256).tofile(tmp_path / "train.bin")
    with monkeypatch.context() as patch:
        before_call(patch, "normlab.train.loop.validation_loss", lambda: [cut(path) for path in stored()])
        said = command(*options, *data, "trainer.val_every=1", "hydra.run.dir=cut")
    assert said.exit_code == 1
    assert "Traceback" not in said.err
    assert ".bin is not what it was (it was cut while in use). Put it back." in said.out
    assert RunFolder(tmp_path / "cut").read_summary()["outcome"] == "crashed"


def cut(path: Path) -> None:
    """In half."""
    os.truncate(path, path.stat().st_size // 2)


def runs_in(sweep: Path) -> list[RunFolder]:
    return [RunFolder(path.parent) for path in sweep.glob("*/summary.json")]
