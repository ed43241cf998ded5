"""Checkpoints: every bit comes back, and nothing that is damaged or foreign is ever loaded."""

import copy
import json
import math
import os
import pickletools
from pathlib import Path

import pytest
import torch
from torch import nn, optim

from normlab.core.errors import CheckpointError
from normlab.model.language_model import LanguageModel
from normlab.optim.adamw import adamw
from normlab.train import checkpoint
from normlab.train.checkpoint import load_checkpoint, read_state, save_checkpoint

FILES = ["manifest.json", "model.safetensors", "optimizer.safetensors", "state.json"]
STATE = {"step": 7, "losses": [0.1, None], "note": "é"}


def adamw_for(model: nn.Module) -> optim.AdamW:
    return adamw(model, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)


def take_steps(model: nn.Module, optimizer: optim.Optimizer, num_steps: int) -> None:
    for step in range(num_steps):
        tokens = torch.randint(64, (2, 8), generator=torch.Generator().manual_seed(step))
        model(tokens).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def bits(tensor: torch.Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    return tensor.dtype, tensor.shape, tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()


def weight_bits(model: nn.Module) -> dict[str, tuple]:
    return {name: bits(parameter) for name, parameter in model.named_parameters()}


def optimizer_bits(model: nn.Module, optimizer: optim.Optimizer) -> dict[str, dict[str, tuple]]:
    return {
        name: {key: bits(value.reshape(-1)) for key, value in optimizer.state.get(parameter, {}).items()}
        for name, parameter in model.named_parameters()
    }


def other_model(model: LanguageModel) -> LanguageModel:
    """The same parts with other weights."""
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(0.5)
    return other


@pytest.fixture
def saved(micro: LanguageModel, tmp_path: Path) -> Path:
    """A checkpoint of the micro model after three steps."""
    optimizer = adamw_for(micro)
    take_steps(micro, optimizer, 3)
    path = tmp_path / "step_7"
    save_checkpoint(path, micro, optimizer, STATE)
    return path


def test_weights_optimizer_and_state_come_back_to_the_bit(micro: LanguageModel, tmp_path: Path) -> None:
    optimizer = adamw_for(micro)
    take_steps(micro, optimizer, 3)
    with torch.no_grad():
        micro.head.weight[0, :3] = torch.tensor([math.nan, math.inf, -0.0])
    save_checkpoint(tmp_path / "step_7", micro, optimizer, STATE)

    other = other_model(micro)
    other_optimizer = adamw_for(other)
    take_steps(other, other_optimizer, 1)
    assert load_checkpoint(tmp_path / "step_7", other, other_optimizer) == STATE
    assert weight_bits(other) == weight_bits(micro)
    expected = optimizer_bits(micro, optimizer)
    assert optimizer_bits(other, other_optimizer) == expected
    assert {frozenset(state) for state in expected.values()} == {frozenset({"step", "exp_avg", "exp_avg_sq"})}


def test_loading_without_an_optimizer_fills_the_weights_alone(micro: LanguageModel, saved: Path) -> None:
    other = other_model(micro)
    assert load_checkpoint(saved, other) == STATE
    assert weight_bits(other) == weight_bits(micro)


def test_what_an_optimizer_remembers_of_before_is_gone(micro: LanguageModel, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "step_0", micro, adamw_for(micro), {})
    optimizer = adamw_for(micro)
    take_steps(micro, optimizer, 1)
    load_checkpoint(tmp_path / "step_0", micro, optimizer)
    assert optimizer_bits(micro, optimizer) == {name: {} for name, _ in micro.named_parameters()}


def test_a_tied_weight_is_saved_once_and_stays_tied(micro: LanguageModel, tmp_path: Path) -> None:
    micro.head.weight = micro.token_embedding.weight
    save_checkpoint(tmp_path / "step_1", micro, adamw_for(micro), {})
    other = other_model(micro)
    load_checkpoint(tmp_path / "step_1", other)
    assert other.head.weight is other.token_embedding.weight
    assert weight_bits(other) == weight_bits(micro)


def test_a_persistent_buffer_is_saved_too(tmp_path: Path) -> None:
    model, other = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    model(torch.randn(5, 3))
    save_checkpoint(tmp_path / "step_1", model, adamw_for(model), {})
    load_checkpoint(tmp_path / "step_1", other)
    assert torch.equal(other.get_buffer("running_mean"), model.get_buffer("running_mean"))
    assert not torch.equal(other.get_buffer("running_mean"), torch.zeros(3))


def test_a_checkpoint_is_four_files_and_none_is_a_pickle(saved: Path) -> None:
    assert sorted(os.listdir(saved)) == FILES
    for name in FILES:
        content = (saved / name).read_bytes()
        assert not content.startswith(b"PK")  # torch.save writes a zip of pickles
        with pytest.raises(ValueError):
            list(pickletools.genops(content))


def test_loading_never_unpickles(micro: LanguageModel, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("a pickle was read")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(f"pickle.{name}", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    load_checkpoint(saved, micro, adamw_for(micro))


@pytest.mark.parametrize("name", [name for name in FILES if name != "manifest.json"])
def test_a_file_that_is_altered_cut_or_missing_is_refused_by_name(micro: LanguageModel, saved: Path, name: str) -> None:
    path = saved / name
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    before = weight_bits(micro)
    for damaged in (bytes(flipped), content[:-1], content + b"\0", b"", None):
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        for use in (lambda: load_checkpoint(saved, micro, adamw_for(micro)), lambda: read_state(saved)):
            with pytest.raises(CheckpointError) as caught:
                use()
            assert str(caught.value).startswith(f"{path} is missing or was altered.")
    assert weight_bits(micro) == before
    path.write_bytes(content)
    assert read_state(saved) == STATE


@pytest.mark.parametrize("content", [None, "", "{", "[]", "{}", '{"format": 1}', "\xff", "null"])
def test_a_folder_without_a_readable_manifest_is_no_checkpoint(saved: Path, content: str | None) -> None:
    (saved / "manifest.json").unlink()
    if content is not None:
        (saved / "manifest.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"readable manifest\.json; '.*step_7' has none"):
        read_state(saved)


@pytest.mark.parametrize("name", ["missing", "file"])
def test_what_is_no_folder_is_no_checkpoint(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="must be a folder with a readable manifest"):
        read_state(tmp_path / name)


def test_another_format_is_refused_with_both_numbers(saved: Path) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps({**manifest, "format": 99, "written_by": "normlab 9"}))
    with pytest.raises(CheckpointError, match="format 99, written by 'normlab 9'; this version reads 1 and 2"):
        read_state(saved)


def test_a_digest_that_the_manifest_lacks_is_not_taken_on_trust(saved: Path) -> None:
    for digests in ({}, 3, {"model.safetensors": "0"}, {**dict.fromkeys(FILES, "0")}):
        (saved / "manifest.json").write_text(json.dumps({"format": 1, "sha256": digests}))
        with pytest.raises(CheckpointError, match=r"must name model\.safetensors, .* and nothing else"):
            read_state(saved)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_file_that_its_digest_fits_but_that_is_no_safetensors_is_refused(
    micro: LanguageModel, saved: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (saved / name).write_bytes(b"PK\x03\x04 is not it")
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["sha256"][name] = checkpoint._sha256(saved / name)
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=rf"{name} is no valid safetensors file"):
        load_checkpoint(saved, micro, adamw_for(micro))


def test_a_checkpoint_of_another_model_is_refused_by_the_name_that_differs(micro: LanguageModel, saved: Path) -> None:
    path = saved / "model.safetensors"
    deeper, shallower, wider = (other_model(micro) for _ in range(3))
    deeper.layers.append(copy.deepcopy(deeper.layers[0]))
    del shallower.layers[1]
    wider.head.weight = nn.Parameter(torch.zeros(65, 32))
    for model, line in (
        (deeper, f"{path} was written for another model: only the model has 'layers.2.attention.key.weight'."),
        (shallower, f"{path} was written for another model: only the file has 'layers.1.attention.key.weight'."),
        (wider, f"{path} was written for another model: 'head.weight' is (64, 32) there and (65, 32) here."),
    ):
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(saved, model)
        assert str(caught.value) == line


@pytest.mark.parametrize("call", [1, 2])
def test_a_crash_in_the_middle_of_saving_leaves_the_older_checkpoint(
    micro: LanguageModel, saved: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    before = {name: (saved / name).read_bytes() for name in FILES}
    calls: list[Path] = []
    original = checkpoint.save_file

    def save_until_the_disk_is_full(tensors: dict[str, torch.Tensor], path: Path) -> None:
        calls.append(path)
        original(tensors, path)
        if len(calls) == call:
            raise OSError("no space left")

    take_steps(micro, adamw_for(micro), 1)
    monkeypatch.setattr(checkpoint, "save_file", save_until_the_disk_is_full)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(saved, micro, adamw_for(micro), {})
    assert {name: (saved / name).read_bytes() for name in FILES} == before
    assert os.listdir(saved.parent) == ["step_7"]


def test_a_checkpoint_replaces_an_older_one_of_the_same_name(micro: LanguageModel, saved: Path) -> None:
    save_checkpoint(saved, other_model(micro), adamw_for(micro), {"step": 8})
    assert load_checkpoint(saved, micro) == {"step": 8}
    assert weight_bits(micro) == weight_bits(other_model(micro))
