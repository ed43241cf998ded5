"""An exported run, opened by transformers in a process that never loads normlab."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.app.hugging_face.conftest import ARCHITECTURES, Exports

from normlab.app import checkpoints
from normlab.app.checkpoints import Trained, load_trained
from normlab.app.hugging_face import writing
from normlab.model.sampling import Sampler, sample_text
from normlab.train.tensors import weights_of

TEXTS = [
    "", " ", "\n\n \t x", "The cat  sat.", "it's we'll 'tis", "123 4567", "ümläut ß ñ", "日本語 テキスト",
    "\U0001f469\u200d\U0001f467 e\u0301", "a<|endoftext|>b", "<|endoftext|><|endoftext|>", "<|endoftext| >",
    "\u00a0\u2003x\u200b", "\x00\x7f", "trailing  ",
]  # fmt: skip
CONTEXT, CONTINUATION = "The cat", " sat on the mat"
GREEDY = Sampler(temperature=0.0, top_k=0, top_p=1.0, max_tokens=8)


def opened(path: Path, patch: pytest.MonkeyPatch, name: str = "") -> Trained:
    """What ``checkpoint=`` opens, on the CPU."""
    hydra = SimpleNamespace(overrides=SimpleNamespace(task=[]))
    patch.setattr(checkpoints.HydraConfig, "get", lambda: hydra)
    return load_trained(name or str(path), torch.device("cpu"))


@pytest.fixture(scope="module")
def elsewhere(exports: Exports, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a fresh process finds in the folders, which it all opens at once."""
    home = tmp_path_factory.mktemp("home")
    script = Path(__file__).with_name("fresh_process.py")
    folders = [str(exports.path / name / "hf") for name in ARCHITECTURES]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), json.dumps([TEXTS, CONTEXT, CONTINUATION]), *folders],
        env={**os.environ, "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        cwd=home, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(ARCHITECTURES, json.loads(done.stdout).values(), strict=True))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_fresh_process_computes_the_same(
    name: str, exports: Exports, elsewhere: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, found = opened(exports.path / name, monkeypatch), elsewhere[name]
    tokenizer = trained.tokenizer
    assert tokenizer is not None
    assert found["kind"] == ("LlamaForCausalLM" if name == "llama" else "NormlabForCausalLM")
    assert found["not_loaded"] == []
    assert found["ids"] == [tokenizer.encode(text) for text in TEXTS]
    assert found["decoded"] == TEXTS

    asked, said = [tokenizer.end_of_text, *tokenizer.encode(CONTEXT)], tokenizer.encode(CONTINUATION)
    with torch.no_grad():
        logits_TV = trained.model(torch.tensor([asked + said]))[0]
    torch.testing.assert_close(torch.tensor(found["logits"]), logits_TV, atol=1e-5, rtol=0)
    of_said = logits_TV[len(asked) - 1 : -1].double().log_softmax(-1).gather(1, torch.tensor(said)[:, None])
    assert found["log_likelihood"] == pytest.approx(of_said.sum().item(), abs=1e-4)
    greedy = sample_text(trained.model, tokenizer, CONTEXT, GREEDY, torch.Generator())
    assert found["greedy"] == greedy
    assert found["padded_alike"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_folder_is_the_run_bit_for_bit(name: str, exports: Exports, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = weights_of(opened(exports.path / name, monkeypatch).model)
    back = weights_of(opened(exports.path, monkeypatch, f"hf:{exports.path / name / 'hf'}").model)
    assert ours.keys() == back.keys()
    assert all(torch.equal(ours[key], back[key]) for key in ours)


@pytest.mark.parametrize(
    ("name", "words"),
    {
        "llama": ["LlamaForCausalLM"],
        "no_norm": ["trust_remote_code=True", "model.norm is none, not RMSNorm"],
        "post_norm": ["model.placement.slots is ['output'], not ['input']"],
        "clamped": ["attention.clamp is HardClamp, not none; model.position is NoPosition, not RotaryPosition"],
        "qk_norm": ["model.qk_norm is RMSNorm, not none", "model.residual is shared_scalar, not plain"],
    }.items(),
)
def test_a_line_says_what_llama_cannot_express(name: str, words: list[str], exports: Exports) -> None:
    assert all(word in exports.said[name] for word in words)
    assert "exported to: " in exports.said[name]


def test_the_card_holds_the_record(exports: Exports) -> None:
    summary = json.loads((exports.path / "no_norm" / "summary.json").read_text())
    card = (exports.path / "no_norm" / "hf" / "README.md").read_text()
    assert f"| fingerprint | {summary['fingerprint']} |" in card
    assert f"| final_val_loss | {summary['final_val_loss']:.4f} |" in card
    assert "trust_remote_code=True" in card
    assert "trust_remote_code" not in (exports.path / "llama" / "hf" / "README.md").read_text()


def test_an_export_is_whole_or_not_there(exports: Exports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError("no space")

    trained = opened(exports.path / "llama", monkeypatch)
    monkeypatch.setattr(writing, "write_tokenizer", fail)
    with pytest.raises(OSError, match="no space"):
        writing.write_folder(trained, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_not_written(exports: Exports, command) -> None:
    said = command("task=export", f"checkpoint={exports.path / 'llama'}")
    assert said.exit_code == 2
    assert "must be a new or an empty folder" in said.err
    assert said.err.count("\n") == 1
    said = command("task=export", f"checkpoint=hf:{exports.path / 'llama' / 'hf'}")
    assert said.exit_code == 2
    assert "Type output=<folder>" in said.err


def test_what_was_exported_is_exported_again_to_the_same_bytes(exports: Exports, command, tmp_path: Path) -> None:
    for name in ("llama", "no_norm"):
        folder = exports.path / name / "hf"
        assert command("task=export", f"checkpoint=hf:{folder}", f"output={name}").exit_code == 0
        for file in folder.iterdir():
            if file.name != "README.md":  # whose record is the run's
                assert (tmp_path / name / file.name).read_bytes() == file.read_bytes()


def test_what_has_two_names_has_two_in_the_file(exports: Exports) -> None:
    """transformers draws anew what a file lacks, also where another name of it is there."""
    weights = load_file(exports.path / "qk_norm" / "hf" / "model.safetensors")
    gates = [weights[f"language_model.layers.0.{path}_path.rule.alpha"] for path in ("attention", "ffn")]
    assert torch.equal(*gates)
