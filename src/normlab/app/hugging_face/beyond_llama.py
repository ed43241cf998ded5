"""In which parts of its function an architecture differs from Llama's."""

from collections.abc import Mapping
from typing import Any

from normlab.app.canonical import differences
from normlab.app.hugging_face.llama_form import Architecture, llama_architecture, sizes_of
from normlab.app.targets import IDENTITY

ACTS_ON_WEIGHTS = "attention.qk_clip."


def beyond_llama(architecture: Architecture) -> list[str]:
    """In words, the parts that are not Llama's; none where the configuration is one of a Llama.

    What acts on weights between steps is not part of the function.
    """
    of_llama = llama_architecture(sizes_of(architecture))
    found = differences(_with_sorted_sites(architecture), _with_sorted_sites(of_llama))
    replaced = [key.removesuffix("_target_") for key in found if key.endswith("._target_")]
    return [
        f"{key.removesuffix('._target_')} is {_shown(ours)}, not {_shown(theirs)}"
        for key, (ours, theirs) in found.items()
        if not key.startswith(ACTS_ON_WEIGHTS)
        and (key.endswith("._target_") or not any(key.startswith(part) for part in replaced))
    ]


def _with_sorted_sites(architecture: Architecture) -> Architecture:
    placement = architecture["model"]["placement"]
    in_order = {name: sorted(value) if isinstance(value, list) else value for name, value in placement.items()}
    return {**architecture, "model": {**architecture["model"], "placement": in_order}}


def _shown(value: Any) -> str:
    if value is None or value == IDENTITY:
        return "none"
    if isinstance(value, Mapping):
        return "given"
    return value.rpartition(".")[2] if isinstance(value, str) else str(value)
