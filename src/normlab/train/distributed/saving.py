"""A checkpoint of weights that are spread over devices: each process writes its part, and nobody holds the whole."""

import json
import os
import shutil
import struct
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from normlab.core.files import folder_made_whole
from normlab.train.checkpoint import MODEL, OPTIMIZER, write_notes
from normlab.train.distributed.world import World

OF_ONE_FILE = "model-00001-of-00001.safetensors"
"""What PyTorch's distributed checkpoint calls the file that it puts together."""


def write_checkpoint_together(
    path: Path,
    weights: Mapping[str, Tensor],
    optimizer_tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    world: World,
) -> None:
    """Write the same files as one device would; every process of the ``world`` has to call.

    The parts go through PyTorch's distributed checkpoint into safetensors files, from which rank 0 copies them, piece
    by piece, into one: no pickle, and no tensor is ever whole. All processes must see the folder.
    """
    with ExitStack() as stack:
        made = world.from_main(lambda: str(stack.enter_context(folder_made_whole(path))))
        folder = Path(made)
        for name, tensors in ((MODEL, weights), (OPTIMIZER, optimizer_tensors)):
            _write_parts(folder / name, {key: tensor.detach() for key, tensor in tensors.items()}, world)
        world.from_main(lambda: write_notes(folder, state))


def _write_parts(file: Path, tensors: dict[str, Tensor], world: World) -> None:
    """Leave the tensors in the one file."""
    if tensors:
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
        from torch.distributed.checkpoint.state_dict_saver import save

        parts = file.with_suffix(".parts")
        save(
            tensors,
            storage_writer=HuggingFaceStorageWriter(str(parts), save_distributed=True, enable_consolidation=True),
        )
        world.from_main(lambda: _keep_whole(parts, file, tensors))
    else:
        world.from_main(lambda: save_file({}, file))


def _keep_whole(parts: Path, file: Path, tensors: Mapping[str, Tensor]) -> None:
    os.replace(parts / OF_ONE_FILE, file)
    shutil.rmtree(parts)
    _write_numbers(file, {name: tensor for name, tensor in tensors.items() if tensor.ndim == 0})


def _write_numbers(file: Path, numbers: Mapping[str, Tensor]) -> None:
    """Put tensors without axes where the file's header says: torch leaves zeros in their place (seen in 2.13)."""
    with file.open("r+b") as opened:
        (num_bytes,) = struct.unpack("<Q", opened.read(8))
        header = json.loads(opened.read(num_bytes))
        for name, number in numbers.items():
            begin, _ = header[name]["data_offsets"]
            opened.seek(8 + num_bytes + begin)
            opened.write(number.cpu().numpy().tobytes())
