"""A run that starts from the weights of another."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.app.hugging_face.conftest import MICRO, Exports

from normlab.train.intact import find_checkpoint

SHORT = [text for text in MICRO if not text.startswith("trainer.steps")] + ["trainer.steps=1", "optimizer.lr=1e-12"]
SAME_TOKENS = "tokenizer=from_checkpoint"


def weights_in(run: Path) -> dict[str, torch.Tensor]:
    return load_file(find_checkpoint(run, print) / "model.safetensors")


@pytest.fixture
def at_exports(exports: Exports, tmp_path: Path, text_data) -> Path:
    return exports.path


def summary(run: Path) -> dict:
    return json.loads((run / "summary.json").read_text())


def test_an_ablation_takes_over_what_both_have(at_exports: Path, command, tmp_path: Path) -> None:
    llama = at_exports / "llama"
    for name, checkpoint in {"own": llama, "hf": f"hf:{llama / 'hf'}"}.items():
        start = f"checkpoint={checkpoint}"
        said = command(*SHORT, start, SAME_TOKENS, "model/norm=none", "seed=5", f"hydra.run.dir={name}")
        assert said.exit_code == 0, said.err
        assert "16 of 16 weights taken over; only there: final_norm.gain, layers.*.attention_path" in said.err
    before, after = weights_in(llama), weights_in(tmp_path / "own")
    for name, weight in after.items():
        torch.testing.assert_close(weight, before[name], atol=1e-9, rtol=0)
    assert summary(tmp_path / "own")["fingerprint"] == summary(tmp_path / "hf")["fingerprint"]
    weights = load_file(shutil.copytree(llama / "hf", tmp_path / "other") / "model.safetensors")
    save_file({**weights, "lm_head.weight": -weights["lm_head.weight"]}, tmp_path / "other" / "model.safetensors")
    command(*SHORT, "checkpoint=hf:other", SAME_TOKENS, "model/norm=none", "seed=5", "hydra.run.dir=b")
    assert summary(tmp_path / "b")["fingerprint"] != summary(tmp_path / "own")["fingerprint"]


def test_what_only_the_run_has_is_drawn_and_set_up_by_the_weights(at_exports: Path, command, tmp_path: Path) -> None:
    llama = at_exports / "llama"
    said = command(*SHORT, f"checkpoint={llama}", SAME_TOKENS, "model/linear=sigma_reparam", "hydra.run.dir=run")
    assert "only here, as drawn: head.gain, head.left_O" in said.err, said.err
    before, after = weights_in(llama), weights_in(tmp_path / "run")
    largest = torch.linalg.svdvals(before["head.weight"])[0]
    torch.testing.assert_close(after["head.gain"], largest, atol=1e-4, rtol=0)


def test_the_start_is_inspected(at_exports: Path, command) -> None:
    said = command(*MICRO, "task=inspect", f"checkpoint=hf:{at_exports / 'llama' / 'hf'}", SAME_TOKENS)
    assert said.exit_code == 0, said.err
    assert "21 of 21 weights taken over" in said.err


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=tiny"], ["Type model.width=32 model.num_layers=2 model.num_heads=2 model.ffn.hidden_width=64."]),
        (["model.tied_embedding=true"], ["Type model.tied_embedding=false."]),
        (["tokenizer=bytes"], ["the tokenizer that", "Type tokenizer=from_checkpoint."]),
    ],
)
def test_what_does_not_agree_is_refused_with_what_to_type(
    overrides: list[str], words: list[str], at_exports: Path, command, tmp_path: Path
) -> None:
    said = command(*MICRO, f"checkpoint={at_exports / 'llama'}", *overrides, "hydra.run.dir=run")
    assert said.exit_code == 2
    assert all(word in said.err for word in words), said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "run").exists()


def test_other_constants_are_said_and_other_sizes_of_other_parts_are_drawn(at_exports: Path, command) -> None:
    said = command(
        *SHORT, f"checkpoint={at_exports / 'llama'}", SAME_TOKENS, "model/ffn=gelu", "model.position.theta=500"
    )
    assert said.exit_code == 0, said.err
    assert "was made with model.position.theta=10000.0." in said.err
    assert "only here, as drawn: layers.*.ffn.down.weight, layers.*.ffn.up.weight" in said.err
