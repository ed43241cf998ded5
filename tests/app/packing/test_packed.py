"""A packed sweep leaves the files of a sweep whose runs train one after the other."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file
from tests.app.sweeps.ending import ENDS
from tests.app.sweeps.sweeping import LOGGED, QUICK, SWEEP, outcomes, runs

from normlab.core.run_folder import RunFolder
from normlab.train.pack import Pack

pytestmark = pytest.mark.usefixtures("no_report")
PACKED = "hydra/launcher=packed"
TOLERANCE = 1e-5
"""Of losses and gradient norms against the run alone, relative; of weights after these few steps, absolute."""


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs every joint pass is made for."""
    sizes: list[int] = []
    original = Pack.__call__

    def counted(self: Pack, batches: Any) -> Any:
        sizes.append(len(batches))
        return original(self, batches)

    monkeypatch.setattr(Pack, "__call__", counted)
    return sizes


def files(run: RunFolder) -> set[Path]:
    """By name, without those that carry a time or a process in theirs."""
    found = {path.relative_to(run.path) for path in run.path.rglob("*")}
    return {path for path in found if path.parts[0] not in ("tensorboard", ".hydra")}


def assert_same(packed: RunFolder, alone: RunFolder) -> None:
    """The same files, outcomes and configuration; numbers within the tolerance."""
    assert packed.path.name == alone.path.name and files(packed) == files(alone)
    assert packed.config.read_bytes() == alone.config.read_bytes()
    steps, expected = list(packed.read_metrics()), list(alone.read_metrics())
    assert [record.keys() for record in steps] == [record.keys() for record in expected]
    for record, other in zip(steps, expected, strict=True):
        for key in record.keys() - {"seconds"}:
            assert record[key] == pytest.approx(other[key], rel=10 * TOLERANCE, abs=TOLERANCE, nan_ok=True), key
    for key in ("outcome", "outcome_step", "fingerprint", "tokens", "num_parameters"):
        assert packed.read_summary()[key] == alone.read_summary()[key]
    for path in alone.path.glob("checkpoints/step_*/model.safetensors"):
        weights = load_file(packed.path / path.relative_to(alone.path))
        for name, weight in load_file(path).items():
            assert abs(weights[name] - weight).max() < 10 * TOLERANCE, name


OWN_VALUES = (
    "attention/clamp=hard", "attention.clamp.limit=0.1", "optimizer.lr=1e-2", "optimizer.weight_decay=0,10",
    "trainer.grad_clip=0.1,null", "init.scale.factor=0.5", "telemetry=basic", "telemetry.every=2",
)  # fmt: skip


def test_every_run_has_its_own_values_and_files(command, text_data, tmp_path: Path, packs) -> None:
    asked = ("--multirun", *QUICK, "trainer.steps=3", "trainer.checkpoint_every=2", *text_data, *OWN_VALUES)
    assert command(*asked, "hydra.sweep.dir=alone").exit_code == 0
    assert packs == []
    said = command(*asked, SWEEP, PACKED)
    assert said.exit_code == 0, said.err
    assert packs == [4] * 3
    for packed, alone in zip(runs(tmp_path / "sweep"), runs(tmp_path / "alone"), strict=True):
        assert_same(packed, alone)


@pytest.mark.slow
def test_compiled_runs_have_the_numbers_of_those_alone(command, text_data, tmp_path: Path, packs) -> None:
    asked = ("--multirun", *QUICK, "trainer.steps=3", "trainer.compile=true", *text_data, "optimizer.lr=1e-3,1e-2")
    assert command(*asked, "hydra.sweep.dir=alone").exit_code == 0
    assert command(*asked, SWEEP, PACKED).exit_code == 0
    assert packs == [2] * 3
    for packed, alone in zip(runs(tmp_path / "sweep"), runs(tmp_path / "alone"), strict=True):
        assert_same(packed, alone)


def test_runs_end_when_and_as_they_would_alone(command, text_data, tmp_path: Path, packs) -> None:
    """They are of two lengths, and of each two one lives, one dies and one crashes after two steps."""
    ends = [text.replace(",killed", "") for text in ENDS]
    asked = ("--multirun", *LOGGED, *ends, *text_data, "trainer.steps=4,6")
    assert command(*asked, "hydra.sweep.dir=alone").exit_code == 1
    said = command(*asked, SWEEP, PACKED)
    assert said.exit_code == 1, said.err
    assert outcomes(tmp_path / "sweep") == outcomes(tmp_path / "alone")
    assert packs == [6, 6, 2, 2]
    for packed, alone in zip(runs(tmp_path / "sweep"), runs(tmp_path / "alone"), strict=True):
        assert_same(packed, alone)


@pytest.mark.slow
def test_a_signal_stops_all_runs_and_the_sweep_goes_on(
    command, text_data, tmp_path: Path, packs, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--multirun", *QUICK, "trainer.steps=5", *text_data, "seed=0,1")
    with monkeypatch.context() as patched:
        patched.setattr("normlab.train.loop.training_step", raising(signal.SIGTERM, nth=3))
        said = command(*asked, SWEEP, PACKED)
    assert said.exit_code == 143, said.err
    assert outcomes(tmp_path / "sweep") == ["interrupted"] * 2
    assert {run.read_summary()["steps"] for run in runs(tmp_path / "sweep")} <= {1, 2}
    assert command(*asked, SWEEP, PACKED).exit_code == 0
    assert command(*asked, "hydra.sweep.dir=alone").exit_code == 0
    for packed, alone in zip(runs(tmp_path / "sweep"), runs(tmp_path / "alone"), strict=True):
        assert len(list(packed.read_metrics())) == 5
        assert packed.read_summary()["final_val_loss"] == pytest.approx(
            alone.read_summary()["final_val_loss"], rel=TOLERANCE
        )


def raising(number: signal.Signals, nth: int) -> Callable[..., Any]:
    """``training_step``, which sends a signal in its nth call."""
    from normlab.train.loop import training_step

    calls = 0

    def step(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth:
            signal.raise_signal(number)
        return training_step(*arguments, **keywords)

    return step


def test_packs_are_split_to_fit(command, text_data, tmp_path: Path, packs, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is left alone trains the ordinary way."""
    monkeypatch.setattr("normlab.app.packing.memory.free_bytes", lambda: 1000)
    monkeypatch.setattr("normlab.app.packing.memory.run_bytes", lambda experiment: 350)
    asked = ("--multirun", *QUICK, "trainer.steps=1", *text_data, "seed=0,1,2", PACKED, SWEEP)
    assert command(*asked).exit_code == 0
    assert packs == [2]  # and then one that is left
    assert outcomes(tmp_path / "sweep") == ["completed"] * 3


def test_what_cannot_be_computed_side_by_side_is_said_and_runs_all_the_same(
    command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise RuntimeError("vmap: no rule for this part")

    monkeypatch.setattr("normlab.train.pack.objectives_of", refuse)
    said = command("--multirun", *QUICK, "trainer.steps=1", *text_data, "seed=0,1", SWEEP, PACKED)
    assert said.exit_code == 0, said.err
    assert "note: these runs train one by one, not packed (RuntimeError: vmap: no rule for this part)." in said.err
    assert outcomes(tmp_path / "sweep") == ["completed"] * 2
