"""Checkpoints that have lost a piece of state, as if it had never been saved: their digests are right."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

Forget = Callable[[Path], None]
"""Takes a piece of state away from a checkpoint."""


def forget_tensors(name: str, ending: str, value: float | None) -> Forget:
    """All tensors of a file whose names end so become a number, or are gone."""

    def forget(checkpoint: Path) -> None:
        tensors = load_file(checkpoint / name)
        chosen = [key for key in tensors if key.endswith(ending)]
        assert chosen
        for key in chosen:
            if value is None:
                del tensors[key]
            else:
                tensors[key].fill_(value)
        save_file(tensors, checkpoint / name)
        _sign(checkpoint)

    return forget


def forget_value(key: str, value: Any) -> Forget:
    """The value of state.json at a dotted key becomes another."""

    def forget(checkpoint: Path) -> None:
        state = json.loads((checkpoint / "state.json").read_bytes())
        *groups, name = key.split(".")
        place = state
        for group in groups:
            place = place[group]
        assert place[name] != value
        place[name] = value
        (checkpoint / "state.json").write_text(json.dumps(state))
        _sign(checkpoint)

    return forget


def _sign(checkpoint: Path) -> None:
    manifest = json.loads((checkpoint / "manifest.json").read_bytes())
    names = manifest["sha256"]
    manifest["sha256"] = {name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() for name in names}
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))
