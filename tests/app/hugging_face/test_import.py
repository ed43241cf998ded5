"""Folders that transformers itself has written, as checkpoints of ours."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.app.hugging_face.test_export import opened
from transformers import LlamaConfig, LlamaForCausalLM

from normlab.app.hugging_face.folder import HuggingFaceFolder
from normlab.app.hugging_face.rotary_order import half_split, interleaved
from normlab.app.hugging_face.tokenizer_files import read_tokenizer, write_tokenizer
from normlab.core.errors import CheckpointError
from normlab.data.tokenizer import END_OF_TEXT, BPETokenizer, ByteTokenizer

SIZES: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 24, "initializer_range": 0.2,
}  # fmt: skip


def written(folder: Path, *, shard: str = "1GB", **settings: Any) -> LlamaForCausalLM:
    """A Llama with random weights, and its folder."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(**{**SIZES, **settings})).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 2.0)
    model.save_pretrained(folder, max_shard_size=shard)
    return model


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_key_value_heads": 2, "rms_norm_eps": 1e-3},
        {"tie_word_embeddings": True},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}, "shard": "20KB"},
    ],
    ids=["plain", "grouped", "tied", "sharded"],
)
def test_a_llama_of_theirs_computes_the_same(
    settings: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = written(tmp_path / "theirs", **settings)
    assert (tmp_path / "theirs" / "model.safetensors.index.json").is_file() == ("shard" in settings)
    ours = opened(tmp_path, monkeypatch, f"hf:{tmp_path / 'theirs'}").model
    tokens_BT = torch.randint(SIZES["vocab_size"], (2, SIZES["max_position_embeddings"]))
    with torch.no_grad():
        torch.testing.assert_close(ours(tokens_BT), theirs(tokens_BT).logits, atol=1e-5, rtol=0)


def test_the_orders_of_rotary_channels_are_each_others_inverse() -> None:
    weight = torch.arange(24.0).reshape(12, 2)
    assert half_split(weight, 2)[:6, 0].tolist() == [0, 4, 8, 2, 6, 10]
    assert torch.equal(interleaved(half_split(weight, 2), 2), weight)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model_type": "gpt2"}, ["model_type llama", "'gpt2'", "Name the folder of a Llama"]),
        ({"attention_bias": True}, ["attention_bias False", "got True"]),
        ({"mlp_bias": True}, ["mlp_bias False", "got True"]),
        ({"hidden_act": "gelu"}, ["hidden_act silu", "got gelu"]),
        ({"head_dim": 16}, ["head_dim 8", "got 16"]),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, ["rope_type default", "got llama3"]),
        ({"rope_scaling": {"type": "linear"}, "rope_parameters": None}, ["rope_type default", "got linear"]),
        ({"num_hidden_layers": 3}, ["only config.json tells of", "model.layers.2."]),
        ({"num_hidden_layers": 1}, ["only the weights have", "model.layers.1."]),
        ({"rms_norm_eps": None}, ["rms_norm_eps as a number"]),
    ],
    ids=lambda case: next(iter(case)) if isinstance(case, dict) else "",
)
def test_another_kind_of_model_is_refused_in_one_line(
    changed: dict[str, Any], words: list[str], tmp_path: Path
) -> None:
    written(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changed}))
    with pytest.raises(CheckpointError) as error:
        HuggingFaceFolder.open(tmp_path).weights()
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_and_pickled_folders_are_refused_in_one_line(tmp_path: Path) -> None:
    written(tmp_path)
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()

    def refused() -> str:
        with pytest.raises(CheckpointError) as error:
            HuggingFaceFolder.open(tmp_path).weights()
        return str(error.value)

    weights.write_bytes(content[:100])
    assert "no valid safetensors" in refused()
    weights.unlink()
    assert "must hold model.safetensors" in refused()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    assert "pickled" in refused() and "save_pretrained" in refused()
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"lm_head.weight": "../model.safetensors"}}))
    assert "files beside it" in refused()
    (tmp_path / "config.json").write_text("{")
    assert "no valid JSON" in refused()


def test_what_a_folder_names_is_checked_before_anything_is_built(tmp_path: Path) -> None:
    architecture = {"model": {"_target_": "os.system"}, "attention": {}}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "normlab", "architecture": architecture}))
    with pytest.raises(ValueError, match=r"allow_targets=\[os\]"):
        HuggingFaceFolder.open(tmp_path).architecture([])


def test_older_files_hold_what_is_computed_and_half_precision(tmp_path: Path) -> None:
    written(tmp_path)
    weights = {name: weight.bfloat16() for name, weight in load_file(tmp_path / "model.safetensors").items()}
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(weights, tmp_path / "model.safetensors")
    ours = HuggingFaceFolder.open(tmp_path).weights()
    assert {weight.dtype for weight in ours.values()} == {torch.float32}
    assert torch.equal(ours["head.weight"], weights["lm_head.weight"].float())


def test_a_tokenizer_of_two_files_is_read_as_that_of_one(tmp_path: Path) -> None:
    merges = [(b"h", b"e"), (b"he", b"l"), (b" ", b"he")]
    vocab = {value: bytes([value]) for value in range(256)}
    vocab |= {256 + rank: left + right for rank, (left, right) in enumerate(merges)}
    tokenizer = BPETokenizer(vocab, merges, [END_OF_TEXT])
    write_tokenizer(tokenizer, 24, tmp_path)
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    of_one = read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert read_tokenizer(tmp_path) is None
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    (tmp_path / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in model["merges"]) + "\n"
    )
    of_two = read_tokenizer(tmp_path)
    assert of_one is not None and of_two is not None
    assert of_one.identity() == of_two.identity() == tokenizer.identity()


def test_bytes_are_a_tokenizer_without_merges(tmp_path: Path) -> None:
    write_tokenizer(ByteTokenizer(), 24, tmp_path)
    back = read_tokenizer(tmp_path)
    assert back is not None
    for text in ("", "é\x00 x", f"a{END_OF_TEXT}b"):
        assert back.encode(text) == ByteTokenizer().encode(text)
