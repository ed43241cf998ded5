"""One checkpoint: a folder of safetensors and JSON that appears whole or not at all. No pickle.

step_N/ holds model.safetensors, optimizer.safetensors, state.json and manifest.json, the SHA-256 of the others. No
other file in it is ever opened, and none that is a link.
"""

import hashlib
import struct
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn, optim

from normlab.core.errors import CheckpointError
from normlab.core.files import folder_made_whole
from normlab.core.records import encode_json
from normlab.core.strict_json import MAX_BYTES, parse_strict_json, read_strict_json, shown_name
from normlab.train.tensors import (
    check_weights,
    fill_model,
    fill_optimizer,
    optimizer_tensors_of,
    weights_of,
)

FORMAT = 2
READABLE_FORMATS = {
    1: "the manifest does not say what wrote it, the state nothing of spikes and instabilities",
    2: "the present one",
}
MODEL, OPTIMIZER, STATE, MANIFEST = (
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)
CONTENT = (MODEL, OPTIMIZER, STATE)
MAX_HEADER_BYTES = MAX_BYTES


def save_checkpoint(path: Path, model: nn.Module, optimizer: optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Write weights, optimizer state and ``state`` (JSON values) to the new folder ``path``."""
    with folder_made_whole(path) as folder:
        save_file(_on_cpu(weights_of(model)), folder / MODEL)
        save_file(_on_cpu(optimizer_tensors_of(model, optimizer)), folder / OPTIMIZER)
        write_notes(folder, state)


def write_notes(folder: Path, state: Mapping[str, Any]) -> None:
    """Add the state, and the manifest of all, to a folder that has the tensors."""
    (folder / STATE).write_text(encode_json(state, indent=2) + "\n", encoding="utf-8")
    digests = {name: _sha256(folder / name) for name in CONTENT}
    manifest = {"format": FORMAT, "written_by": f"normlab {_own_version()}", "sha256": digests}
    (folder / MANIFEST).write_text(encode_json(manifest, indent=2) + "\n", encoding="utf-8")


def load_checkpoint(path: Path, model: nn.Module, optimizer: optim.Optimizer | None = None) -> dict[str, Any]:
    """Verify the folder, fill the model (and the optimizer, where given) in place, return the saved state.

    Raises CheckpointError naming the file that is missing, altered or made for another model; then nothing is filled.
    """
    state = read_state(path)
    weights = _tensors_in(path / MODEL)
    check_weights(weights_of(model), weights, path / MODEL)
    if optimizer is not None:
        fill_optimizer(model, optimizer, _tensors_in(path / OPTIMIZER), path / OPTIMIZER)
    fill_model(model, weights, path / MODEL)
    return state


def verify_checkpoint(path: Path) -> dict[str, Any]:
    """The saved state; raises CheckpointError unless all files can be read and are what the manifest says."""
    state = read_state(path)
    for name in (MODEL, OPTIMIZER):
        _tensors_in(path / name)
    return state


def shape_of_weight(path: Path, name: str) -> tuple[int, ...]:
    """The shape of one of the saved weights; raises CheckpointError where there is none of that name."""
    _verify_digests(path)
    weights = _tensors_in(path / MODEL)
    if name not in weights:
        raise CheckpointError(f"{path / MODEL} was written for another model: it has no '{name}'.")
    return tuple(weights[name].shape)


def read_state(path: Path) -> dict[str, Any]:
    """The saved state alone, the folder's digests verified."""
    _verify_digests(path)
    try:
        state = read_strict_json(path / STATE)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path / STATE} is no valid JSON: {error}. Choose another checkpoint.") from None
    if not isinstance(state, dict):
        raise CheckpointError(f"{path / STATE} must hold a JSON object; it does not. Choose another checkpoint.")
    return state


def _verify_digests(path: Path) -> None:
    digests = _digests_in_manifest(path)
    for name in CONTENT:
        file = path / name
        if file.is_symlink() or not file.is_file() or _sha256(file) != digests[name]:
            raise CheckpointError(f"{file} is missing or was altered. Choose another checkpoint of the run.")


def _digests_in_manifest(path: Path) -> dict[str, str]:
    try:
        manifest = read_strict_json(path / MANIFEST)
        found, digests = manifest["format"], manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(
            f"A checkpoint must be a folder with a readable {MANIFEST}; '{path}' has none. "
            f"Name a run folder, or one of the folders in its checkpoints/."
        ) from None
    if type(found) is not int or found not in READABLE_FORMATS:
        writer = f", written by {shown_name(manifest['written_by'])}" if "written_by" in manifest else ""
        readable = " and ".join(map(str, READABLE_FORMATS))
        raise CheckpointError(
            f"{path} has checkpoint format {shown_name(found) if type(found) is not int else found}{writer}; this "
            f"version reads {readable}. Use the version that wrote it."
        )
    if not isinstance(digests, dict) or digests.keys() != set(CONTENT):
        raise CheckpointError(
            f"{path / MANIFEST} must name {', '.join(CONTENT)} and nothing else. Choose another checkpoint of the run."
        )
    return digests


def _tensors_in(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped rather than read: they take memory where they are looked at."""
    try:
        _check_header(path)
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is no valid safetensors file: {error}. Choose another checkpoint.") from None


def _check_header(path: Path) -> None:
    """Raise ValueError for a header that is too long, or has a name twice: safetensors would read both."""
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8:
            raise ValueError("it has no header")
        (num_bytes,) = struct.unpack("<Q", start)
        if num_bytes > MAX_HEADER_BYTES:
            raise ValueError(f"its header of {num_bytes:,} bytes is longer than {MAX_HEADER_BYTES:,}")
        header = parse_strict_json(file.read(num_bytes))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_version() -> str:
    try:
        return version("normlab")
    except PackageNotFoundError:
        return "source"
