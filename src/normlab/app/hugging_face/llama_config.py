"""The ``config.json`` of a Llama: its sizes, or why it is none that our parts can build."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from normlab.app.hugging_face.llama_form import LlamaSizes
from normlab.core.errors import CheckpointError

NEEDED = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings",
    "rms_norm_eps",
)  # fmt: skip
DEFAULT_THETA = 10000.0
"""What a Llama without the key has, in transformers."""


def sizes_in(config: Mapping[str, Any], path: Path) -> LlamaSizes:
    """Raises CheckpointError, naming the key, for what is missing and for a kind of Llama that is not ours."""
    missing = next((key for key in NEEDED if not isinstance(config.get(key), int | float)), None)
    if missing is not None:
        raise CheckpointError(f"{path} must give {missing} as a number; it does not. Download it again.")
    _check_kind(config, path)
    return LlamaSizes(
        width=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        context_length=config["max_position_embeddings"],
        hidden_width=config["intermediate_size"],
        eps=config["rms_norm_eps"],
        theta=float(_rope(config).get("rope_theta", config.get("rope_theta", DEFAULT_THETA))),
        is_tied=bool(config.get("tie_word_embeddings", False)),
    )


def num_key_value_heads(config: Mapping[str, Any]) -> int:
    """Fewer than the queries' in grouped-query attention."""
    return config.get("num_key_value_heads") or config["num_attention_heads"]


def _check_kind(config: Mapping[str, Any], path: Path) -> None:
    width, num_heads = config["hidden_size"], config["num_attention_heads"]
    rope = _rope(config)
    found = {
        "hidden_act": (config.get("hidden_act", "silu"), "silu"),
        "attention_bias": (bool(config.get("attention_bias")), False),
        "mlp_bias": (bool(config.get("mlp_bias")), False),
        "head_dim": (config.get("head_dim") or width // num_heads, width // num_heads),
        "hidden_size % num_attention_heads": (width % num_heads, 0),
        "num_attention_heads % num_key_value_heads": (num_heads % num_key_value_heads(config), 0),
        "rope_type": (rope.get("rope_type", rope.get("type", "default")), "default"),
        "partial_rotary_factor": (rope.get("partial_rotary_factor", config.get("partial_rotary_factor")) or 1, 1),
    }
    for key, (value, legal) in found.items():
        if value != legal:
            raise CheckpointError(
                f"{path} must be of a Llama that normlab's parts can build, with {key} {legal}; got {value}. "
                "Name another."
            )


def _rope(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What transformers 5 keeps together, and 4 in two places."""
    return config.get("rope_parameters") or config.get("rope_scaling") or {}
