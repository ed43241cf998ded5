"""Folders that task=autopsy refuses: runs that did not die, that kept nothing, damaged and hostile bundles."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.app.planted import AGAIN, QUIET, RUN, SMALL, autopsy_of, planted
from torch import Tensor

from normlab.app.bundle import BATCH, INPUTS, TARGETS
from normlab.core.run_folder import RunFolder

DYING = (*planted("large_logits"), RUN)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Where the runs of this file write."""
    return RunFolder(tmp_path / "run")


def test_without_a_bundle_there_is_nothing_to_replay(command, text_data, run: RunFolder) -> None:
    assert command(*DYING, "autopsy.keep_bundle=false", *text_data, QUIET).exit_code == 0
    assert autopsy_of(run)["finding"]["kind"] == "exp_overflow"
    assert not run.bundle.exists()
    check_refusal(command, run, "has kept its replay bundle", "autopsy.keep_bundle=true")


def test_runs_that_did_not_die_are_refused(command, text_data, run: RunFolder) -> None:
    check_refusal(command, run, "run must name a run folder", "run=outputs/<date>/<time>")
    assert command(*SMALL, "trainer.steps=2", *text_data, QUIET, RUN).exit_code == 0
    check_refusal(command, run, "run must name a run that ended nonfinite or diverged; run ended completed")
    run.summary.unlink()
    check_refusal(command, run, "run has not ended")
    run.summary.write_text("{")
    check_refusal(command, run, "summary.json is damaged")
    run.summary.write_text('{"outcome": "nonfinite", "outcome_step": "x"}')
    check_refusal(command, run, "must say at which step the run died")


def change_batch(**changes: Callable[[Tensor], Tensor]) -> Callable[[RunFolder], None]:
    def damage(run: RunFolder) -> None:
        batch = load_file(run.bundle / BATCH)
        save_file({**batch, **{name: change(batch[name]) for name, change in changes.items()}}, run.bundle / BATCH)

    return damage


def replaced(file: str, old: str, new: str) -> Callable[[RunFolder], None]:
    def damage(run: RunFolder) -> None:
        path = run.path / file
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return damage


def cut(file: str, num_bytes: int) -> Callable[[RunFolder], None]:
    def damage(run: RunFolder) -> None:
        content = (run.path / file).read_bytes()
        (run.path / file).write_bytes(content[:num_bytes])

    return damage


DAMAGES: dict[str, tuple[Callable[[RunFolder], object], str]] = {
    "no batch": (lambda run: (run.bundle / BATCH).unlink(), "batch.safetensors is missing or damaged"),
    "batch cut": (cut(f"autopsy/{BATCH}", 40), "batch.safetensors is missing or damaged"),
    "targets alone": (
        lambda run: save_file({TARGETS: torch.zeros(8, 32, dtype=torch.int64)}, run.bundle / BATCH),
        "batch.safetensors is missing or damaged",
    ),
    "numbers for ids": (change_batch(inputs=Tensor.float), "two arrays of 8 rows of 32 token ids"),
    "one long row": (change_batch(inputs=Tensor.flatten, targets=Tensor.flatten), "8 rows of 32 token ids"),
    "weights cut": (cut("autopsy/before/model.safetensors", 1000), "model.safetensors is missing or was altered"),
    "no weights": (lambda run: shutil.rmtree(run.bundle / "before"), "has kept its replay bundle"),
    "foreign code": (replaced("config.yaml", "normlab.model.norms.LayerNorm", "pathlib.Path"), "got 'pathlib.Path'"),
    "configuration cut": (replaced("config.yaml", "seed: 0", "seed: ["), "config.yaml is damaged"),
    "text for a loss": (replaced("metrics.jsonl", '"train_loss": "NaN"', '"train_loss": "?"'), "must hold numbers"),
    "step that is no object": (replaced("metrics.jsonl", '{"step": 2', '["step", 2'), "line 2 is none"),
}  # fmt: skip


QUICK = ("batch cut", "one long row", "weights cut", "foreign code", "text for a loss")


@pytest.mark.parametrize("names", [QUICK, pytest.param(DAMAGES.keys() - QUICK, marks=pytest.mark.slow)])
def test_damaged_and_hostile_bundles_are_refused(
    names: Iterable[str], command, text_data, run: RunFolder, tmp_path: Path
) -> None:
    assert command(*DYING, *text_data, QUIET).exit_code == 0
    whole = tmp_path / "whole"
    shutil.copytree(run.path, whole)
    for name in names:
        damage, told = DAMAGES[name]
        shutil.rmtree(run.path)
        shutil.copytree(whole, run.path)
        damage(run)
        check_refusal(command, run, told, case=name)


def check_refusal(command, run: RunFolder, *told: str, case: str = "") -> None:
    """One line, exit code 2, and no byte of the folder is another."""
    before = content_of(run.path)
    said = command(*AGAIN)
    assert said.exit_code == 2, case
    (line,) = said.err.strip().splitlines()
    assert line.startswith("error: ") and all(text in line for text in told), (case, line)
    assert said.out == ""
    assert content_of(run.path) == before, case


def content_of(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_ids_that_are_no_tokens_are_named(command, text_data, run: RunFolder) -> None:
    """Token files with such ids are refused before a run begins: they can come to a replay only from elsewhere."""
    assert command(*DYING, *text_data, QUIET).exit_code == 0

    def spoilt(ids_BT: Tensor) -> Tensor:
        ids_BT[2, 5] = 70_000
        return ids_BT

    change_batch(**{INPUTS: spoilt})(run)
    said = command(*AGAIN)
    assert said.exit_code == 0, said.err
    finding = autopsy_of(run)["finding"]
    assert (finding["phase"], finding["site"], finding["kind"]) == ("data", "inputs", "bad_input")
    assert (finding["elements"]["sequences"], finding["elements"]["tokens"]) == ([2], [5])
    assert "the input tokens hold ids outside the vocabulary" in " ".join(said.out.split())
