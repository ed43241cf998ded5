"""The weights of a Llama by our names and by Hugging Face's.

Shapes: ``H`` heads, ``G`` heads of keys and values, ``K`` head width, ``D`` width.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from normlab.app.hugging_face.rotary_order import half_split, interleaved

OUTSIDE = {
    "token_embedding.weight": "model.embed_tokens.weight",
    "final_norm.gain": "model.norm.weight",
    "head.weight": "lm_head.weight",
}
IN_LAYER = {
    "attention_path.input_norm.gain": "input_layernorm.weight",
    "attention.query.weight": "self_attn.q_proj.weight",
    "attention.key.weight": "self_attn.k_proj.weight",
    "attention.value.weight": "self_attn.v_proj.weight",
    "attention.out.weight": "self_attn.o_proj.weight",
    "ffn_path.input_norm.gain": "post_attention_layernorm.weight",
    "ffn.gate.weight": "mlp.gate_proj.weight",
    "ffn.up.weight": "mlp.up_proj.weight",
    "ffn.down.weight": "mlp.down_proj.weight",
}
ROTATED = ("attention.query.weight", "attention.key.weight")
SHARED_BY_HEADS = ("attention.key.weight", "attention.value.weight")
HEAD = "head.weight"


def names_of_llama(num_layers: int, *, is_tied: bool) -> dict[str, str]:
    """Our name of every weight to Hugging Face's; a tied head has no weight of its own."""
    names = {ours: theirs for ours, theirs in OUTSIDE.items() if not (is_tied and ours == HEAD)}
    for layer in range(num_layers):
        names |= {f"layers.{layer}.{ours}": f"model.layers.{layer}.{theirs}" for ours, theirs in IN_LAYER.items()}
    return names


def to_llama(weights: Mapping[str, Tensor], *, num_layers: int, num_heads: int, is_tied: bool) -> dict[str, Tensor]:
    """Our weights by Hugging Face's names, the rows of queries and keys in its order."""
    return {
        theirs: half_split(weights[ours], num_heads) if _in_layer(ours) in ROTATED else weights[ours]
        for ours, theirs in names_of_llama(num_layers, is_tied=is_tied).items()
    }


def from_llama(
    weights: Mapping[str, Tensor], *, num_layers: int, num_heads: int, num_key_value_heads: int, is_tied: bool
) -> dict[str, Tensor]:
    """Hugging Face's weights by our names, in float32.

    Keys and values that ``num_heads / num_key_value_heads`` heads share are repeated for each: the same function.
    """
    ours_by_name = {}
    for ours, theirs in names_of_llama(num_layers, is_tied=is_tied).items():
        weight, part = weights[theirs].float(), _in_layer(ours)
        if part in ROTATED:
            weight = interleaved(weight, num_key_value_heads if part in SHARED_BY_HEADS else num_heads)
        if part in SHARED_BY_HEADS and num_key_value_heads != num_heads:
            per_head = weight.unflatten(0, (num_key_value_heads, -1))
            weight = per_head.repeat_interleave(num_heads // num_key_value_heads, 0).flatten(0, 1)
        ours_by_name[ours] = weight
    return ours_by_name


def _in_layer(name: str) -> str:
    """What the weight is called within its layer."""
    return re.sub(r"^layers\.\d+\.", "", name)
