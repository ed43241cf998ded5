"""The JSON beside the weights: what transformers builds, and how it generates.

Keys that were renamed stand under both names, so that transformers 4.50 and 5 read the same.
"""

from typing import Any

from normlab.app.hugging_face.llama_form import Architecture, sizes_of

CODE = {
    "AutoConfig": "configuration_normlab.NormlabConfig",
    "AutoModelForCausalLM": "modeling_normlab.NormlabForCausalLM",
}


def llama_config(architecture: Architecture, vocab_size: int, end_of_text: int | None) -> dict[str, Any]:
    """``config.json`` of a LlamaForCausalLM."""
    sizes = sizes_of(architecture)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        **_common(architecture, vocab_size, end_of_text),
        "intermediate_size": sizes.hidden_width,
        "num_key_value_heads": sizes.num_heads,
        "head_dim": sizes.width // sizes.num_heads,
        "hidden_act": "silu",
        "rms_norm_eps": sizes.eps,
        "rope_theta": sizes.theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": sizes.theta},
        "attention_bias": False,
        "mlp_bias": False,
    }


def normlab_config(architecture: Architecture, vocab_size: int, end_of_text: int | None) -> dict[str, Any]:
    """``config.json`` of a model whose code lies beside it."""
    return {
        "architectures": ["NormlabForCausalLM"],
        "model_type": "normlab",
        "auto_map": CODE,
        **_common(architecture, vocab_size, end_of_text),
        "use_cache": False,
        "architecture": architecture,
    }


def generation_config(end_of_text: int | None, *, has_cache: bool) -> dict[str, Any]:
    """``generation_config.json``: a document begins and ends with the end-of-text token."""
    tokens = {} if end_of_text is None else {f"{kind}_token_id": end_of_text for kind in ("bos", "eos", "pad")}
    return {**tokens, "do_sample": False, "use_cache": has_cache}


def _common(architecture: Architecture, vocab_size: int, end_of_text: int | None) -> dict[str, Any]:
    sizes = sizes_of(architecture)
    return {
        "vocab_size": vocab_size,
        "hidden_size": sizes.width,
        "num_hidden_layers": sizes.num_layers,
        "num_attention_heads": sizes.num_heads,
        "max_position_embeddings": sizes.context_length,
        "tie_word_embeddings": sizes.is_tied,
        "bos_token_id": end_of_text,
        "eos_token_id": end_of_text,
        "dtype": "float32",
        "torch_dtype": "float32",
    }
