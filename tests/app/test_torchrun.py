"""One run on many devices, in real processes over gloo: the same numbers, one folder, one voice, and how it ends."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.app.killing import ENTRY, SAID, AtCall, NanFrom
from tests.app.ranks import Ranks

from normlab.app.bundle import checkpoint_in
from normlab.app.memory import check_memory
from normlab.core.run_folder import RunFolder
from normlab.train.checkpoint import read_state
from normlab.train.distributed.world import World

SMALL = (
    "model=micro", "model.width=16", "tokenizer=bytes", "data=text", "data.train=[a.txt]", "data.valid=c.txt",
    "trainer.steps=6", "trainer.val_tokens=1024", "schedule.warmup_steps=1", "trainer.val_every=3",
    "trainer.checkpoint_every=2", "logger=none",
)  # fmt: skip
TELEMETRY = ("telemetry=full", "telemetry.every=2")
SILENT = "task.sampler.max_tokens=1"
PARTS = ("trainer.global_batch=8", "trainer.batch_size=2")
KEPT = ("autopsy.keep_bundle=true", "autopsy.copy_every=1", "hydra.run.dir=dead")
TOLERANCE = 2e-5
"""Relative. Sums of float32 in another order differ by 1e-7; AdamW divides by small numbers, and six steps add up."""


@pytest.fixture(scope="module")
def ranks() -> Iterator[Ranks]:
    with Ranks() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("The cat sat on the mat. " * 200 + "<|endoftext|>" + "A dog ran by. " * 200)
    (tmp_path / "c.txt").write_text("The dog sat on the cat. " * 200)
    return tmp_path


def records_in(folder: Path, name: str) -> list[dict]:
    return list(RunFolder(folder / name).read_metrics())


def largest_difference(one: list[dict], other: list[dict]) -> tuple[float, str]:
    """Relative, over all steps and tags."""
    worst = (0.0, "")
    assert [record.keys() for record in one] == [record.keys() for record in other]
    for left, right in zip(one, other, strict=True):
        for tag in left.keys() - {"seconds", "notes"}:
            difference = abs(left[tag] - right[tag]) / max(abs(left[tag]), 1e-6)
            worst = max(worst, (difference if math.isfinite(difference) else math.inf, f"{tag} at {left['step']}"))
    return worst


def test_the_curve_of_any_number_of_devices_is_that_of_one(ranks: Ranks, folder: Path) -> None:
    shorter = (*SMALL, *TELEMETRY, SILENT, "trainer.steps=4", "trainer.val_every=2", "trainer.checkpoint_every=0")
    assert ranks.to_the_end(folder, 0, *shorter, "hydra.run.dir=one") == [0]
    one = records_in(folder, "one")
    fingerprint = RunFolder(folder / "one").read_summary()["fingerprint"]
    for size, parallel, parts in [(2, "ddp", PARTS), (2, "fsdp", PARTS), (4, "ddp", ()), (4, "fsdp", ())]:
        name = f"{parallel}_{size}"
        codes = ranks.to_the_end(folder, size, *shorter, *parts, f"trainer={parallel}", f"hydra.run.dir={name}")
        assert codes == [0] * size, (folder / SAID).read_text()
        difference, where = largest_difference(one, records_in(folder, name))
        assert difference < TOLERANCE, f"{name}: {where}"
        run = RunFolder(folder / name)
        assert run.read_summary()["fingerprint"] == fingerprint
        assert run.read_summary()["hardware"]["num_devices"] == size
        assert (run.path / ".hydra" / "overrides.yaml").is_file()
    said = (folder / SAID).read_text()
    assert "Traceback" not in said
    assert said.count("completed: ") == 5  # one voice for each run
    assert said.count("written to: ddp_4") == 1


@pytest.mark.parametrize(
    ("parallel", "options"),
    [
        ("ddp", ("model/linear=sigma_reparam",)),
        ("ddp", ("attention/qk_clip=rescale", "attention.qk_clip.threshold=0.01")),
        pytest.param("fsdp", ("optimizer=lion",), marks=pytest.mark.slow),
        pytest.param("fsdp", ("optimizer=sgd",), marks=pytest.mark.slow),
    ],
)
def test_what_has_a_state_of_its_own_agrees_too(
    parallel: str, options: tuple[str, ...], ranks: Ranks, folder: Path
) -> None:
    few = (*SMALL, *options, SILENT, "trainer.steps=3", "trainer.checkpoint_every=0")
    assert ranks.to_the_end(folder, 0, *few, "hydra.run.dir=one") == [0]
    assert ranks.to_the_end(folder, 2, *few, f"trainer={parallel}", "hydra.run.dir=two") == [0, 0]
    difference, where = largest_difference(records_in(folder, "one"), records_in(folder, "two"))
    assert difference < TOLERANCE, where
    one, two = (load_file(folder / name / "checkpoints" / "last" / "model.safetensors") for name in ("one", "two"))
    assert one.keys() == two.keys()
    for name, weight in one.items():
        assert torch.allclose(weight, two[name], rtol=1e-3, atol=1e-5), name


def test_a_run_goes_on_on_another_number_of_devices(ranks: Ranks, folder: Path) -> None:
    longer = ("trainer.val_every=100", SILENT)
    assert ranks.to_the_end(folder, 0, *SMALL, *longer, "hydra.run.dir=whole") == [0]
    stop_2 = {0: AtCall("normlab.app.training._save", nth=1, moment="after", number=signal.SIGTERM)}
    codes = ranks.to_the_end(folder, 2, *SMALL, *longer, "trainer=fsdp", "hydra.run.dir=cut", deaths=stop_2)
    assert codes == [143, 143]
    codes = ranks.to_the_end(folder, 0, "resume=cut", "trainer.parallel=none", deaths=stop_2)
    assert codes == [143]
    assert read_state(folder / "cut" / "checkpoints" / "last")["step"] == 4
    assert ranks.to_the_end(folder, 4, "resume=cut", "trainer.parallel=fsdp") == [0] * 4
    difference, where = largest_difference(records_in(folder, "whole"), records_in(folder, "cut"))
    assert difference < TOLERANCE, where
    assert ranks.to_the_end(folder, 2, "resume=cut") == [0, 0]
    assert "ended completed already" in (folder / SAID).read_text()


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_nan_on_one_rank_is_everybodys_and_the_autopsy_sees_all_of_the_batch(
    parallel: str, ranks: Ranks, folder: Path
) -> None:
    fatal = (
        "init.scale.factor=1e20",
        "init/scale=small",
        "model/norm=none",
        "telemetry=basic",
        "autopsy.keep_bundle=true",
    )
    codes = ranks.to_the_end(folder, 2, *SMALL, *fatal, f"trainer={parallel}", "hydra.run.dir=dead")
    assert codes == [0, 0]
    dead = RunFolder(folder / "dead")
    assert dead.read_summary()["outcome"] == "nonfinite"
    assert dead.autopsy_json.is_file()
    assert "note: the autopsy failed" not in (folder / SAID).read_text()
    assert len(load_file(dead.bundle / "batch.safetensors")["inputs"]) == 8


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_nan_on_one_rank_alone_ends_all_in_its_step(parallel: str, ranks: Ranks, folder: Path) -> None:
    passes_of_two_steps = 2 * 2  # one for each layer of the model
    planted = {1: NanFrom("normlab.model.feed_forward.SwiGLU.forward", nth=passes_of_two_steps + 1)}
    codes = ranks.to_the_end(folder, 2, *SMALL, f"trainer={parallel}", *KEPT, deaths=planted)
    assert codes == [0, 0]
    dead = RunFolder(folder / "dead")
    assert dead.read_summary()["outcome"] == "nonfinite"
    assert dead.read_summary()["steps"] == 3 == len(records_in(folder, "dead"))
    autopsy = dead.autopsy_markdown.read_text()
    assert "Traceback" not in (folder / SAID).read_text()
    assert "the step stayed finite" in autopsy  # taken once more, on one device: what a flipped bit looks like
    for name in ("model.safetensors", "optimizer.safetensors"):  # before step 3; gathered, and as its checkpoint
        gathered, saved = (load_file(path / name) for path in (checkpoint_in(dead), dead.checkpoints / "step_2"))
        assert gathered.keys() == saved.keys()
        for key, tensor in gathered.items():
            assert tensor.dtype == saved[key].dtype and tensor.shape == saved[key].shape
            assert tensor.numpy().tobytes() == saved[key].numpy().tobytes(), key


def test_a_signal_to_one_rank_stops_all_after_the_same_step(ranks: Ranks, folder: Path) -> None:
    fatal = {1: AtCall("normlab.train.loop.training_step", nth=3, number=signal.SIGTERM)}
    codes = ranks.to_the_end(folder, 2, *SMALL, "trainer=ddp", "hydra.run.dir=cut", deaths=fatal)
    assert codes == [143, 143]
    run = RunFolder(folder / "cut")
    assert run.read_summary()["outcome"] == "interrupted"
    assert read_state(run.checkpoints / "last")["step"] == 3 == len(records_in(folder, "cut"))
    assert "interrupted: stopped after 3 steps" in (folder / SAID).read_text()


@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_is_killed_ends_the_others_with_a_line_that_names_it(
    victim: int, ranks: Ranks, folder: Path
) -> None:
    fatal = {victim: AtCall("normlab.train.loop.training_step", nth=4)}
    processes = ranks.start(folder, 2, *SMALL, "trainer=ddp", "hydra.run.dir=cut", deaths=fatal)
    started = time.monotonic()
    codes = ranks.wait()
    assert time.monotonic() - started < 60
    assert codes[victim] == -signal.SIGKILL
    assert codes[1 - victim] == 1
    said = (folder / SAID).read_text()
    assert said.count(f"rank {victim} (process {processes[victim]} on ") == 1
    assert "Traceback" not in said
    assert read_state(folder / "cut" / "checkpoints" / "last")["step"] == 3
    assert ranks.to_the_end(folder, 2, "resume=cut") == [0, 0]
    assert [record["step"] for record in records_in(folder, "cut")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("size", "arguments", "told"),
    [
        (2, (), "Type trainer=ddp"),
        (0, ("trainer=ddp",), "Type torchrun --standalone --nproc-per-node=2 src/run.py trainer=ddp"),
        (2, ("--multirun", "trainer=ddp"), "Type python src/run.py --multirun"),
        (2, ("trainer=ddp", "trainer.batch_size=3"), "Try trainer.global_batch=4"),
        (2, ("trainer=fsdp", "optimizer=muon"), "Type trainer=ddp"),
        (2, ("trainer=fsdp", "telemetry.sharpness_every=1"), "Type trainer=ddp"),
        (2, ("trainer=ddp", "trainer.device=meta"), "Try trainer.device=auto"),
        (2, ("trainer=ddp", "task=inspect"), "Only a training"),
        (0, ("--multirun", "trainer=ddp", "hydra/launcher=packed"), "must have several processes for each run"),
    ],
)
def test_what_cannot_be_is_one_line(
    size: int, arguments: tuple[str, ...], told: str, ranks: Ranks, folder: Path
) -> None:
    flags = [text for text in arguments if text.startswith("-")]
    others = [text for text in arguments if not text.startswith("-")]
    assert ranks.to_the_end(folder, size, *flags, *SMALL, *others) == [2] * max(size, 1)
    (line,) = [line for line in (folder / SAID).read_text().splitlines() if not line.startswith("note:")]
    assert line.startswith("error: ")
    assert told in line
    assert not list(folder.glob("outputs/*/*"))


def in_torchrun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(ENTRY), *SMALL,
         "trainer=ddp", *arguments],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
    )  # fmt: skip


def test_torchrun_itself(folder: Path) -> None:
    agent = in_torchrun(folder, "trainer.steps=2")
    _, errors = agent.communicate(timeout=100)
    assert agent.returncode == 0, errors
    (run,) = folder.glob("outputs/*/*")
    assert json.loads((run / "summary.json").read_text())["outcome"] == "completed"


@pytest.mark.slow
def test_a_worker_that_is_killed_is_named_by_torchrun(folder: Path) -> None:
    agent = in_torchrun(folder, "trainer.steps=100000", "trainer.val_every=100000", "hydra.run.dir=cut")
    metrics = RunFolder(folder / "cut").metrics
    deadline = time.monotonic() + 60
    while not (metrics.is_file() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.1)
    children = Path(f"/proc/{agent.pid}/task/{agent.pid}/children").read_text().split()
    (victim,) = [child for child in children if b"\0RANK=1\0" in Path(f"/proc/{child}/environ").read_bytes()]
    os.kill(int(victim), signal.SIGKILL)
    _, errors = agent.communicate(timeout=60)
    assert agent.returncode == 1
    assert f"Signal 9 (SIGKILL) received by PID {victim}" in errors  # by torchrun: it ends rank 0 before that can tell


def test_the_processes_of_a_machine_share_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.size, world.local_size = 4, 2
    monkeypatch.setattr("normlab.app.memory.free_bytes", lambda: 4 * 4 * 1000)
    check_memory(lambda: torch.nn.Linear(1000, 1, bias=False), world)
    check_memory(lambda: torch.nn.Linear(2000, 1, bias=False), world, are_spread=True)
    with pytest.raises(MemoryError):
        check_memory(lambda: torch.nn.Linear(1001, 1, bias=False), world)
    with pytest.raises(MemoryError):
        check_memory(lambda: torch.nn.Linear(2001, 1, bias=False), world, are_spread=True)
