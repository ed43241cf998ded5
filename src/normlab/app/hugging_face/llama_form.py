"""Llama's architecture as one of our configurations."""

from dataclasses import dataclass
from typing import Any

from normlab.app.targets import IDENTITY, target_of
from normlab.model import residual
from normlab.model.attention import CausalSelfAttention
from normlab.model.feed_forward import SwiGLU
from normlab.model.language_model import LanguageModel
from normlab.model.linear import Linear
from normlab.model.logit_scale import LogitScale
from normlab.model.norms import RMSNorm
from normlab.model.placement import Placement
from normlab.model.position import RotaryPosition
from normlab.model.qk_clip import NoQKClip
from normlab.model.softmax import StableSoftmax

Architecture = dict[str, dict[str, Any]]
"""The groups ``model`` and ``attention`` of a resolved configuration."""


@dataclass(frozen=True, kw_only=True)
class LlamaSizes:
    """The numbers that one Llama differs from another in."""

    width: int
    num_layers: int
    num_heads: int
    context_length: int
    hidden_width: int
    eps: float
    theta: float
    is_tied: bool


def llama_architecture(sizes: LlamaSizes) -> Architecture:
    """Pre-norm RMSNorm, rotary positions, SwiGLU, plain linear maps, nothing on the logits.  Touvron et al. 2023."""
    return {
        "model": {
            "_target_": target_of(LanguageModel),
            "_partial_": True,
            "width": sizes.width,
            "num_layers": sizes.num_layers,
            "num_heads": sizes.num_heads,
            "context_length": sizes.context_length,
            "tied_embedding": sizes.is_tied,
            "norm": _factory(RMSNorm, eps=sizes.eps),
            "qk_norm": {"_target_": IDENTITY, "_partial_": True},
            "placement": _built(Placement, slots=["input"], sites=["attention", "ffn", "final"]),
            "residual": _factory(residual.plain),
            "position": _factory(RotaryPosition, theta=sizes.theta),
            "ffn": _factory(SwiGLU, hidden_width=sizes.hidden_width),
            "linear": _factory(Linear),
            "output_cap": {"_target_": IDENTITY},
            "per_layer": {},
        },
        "attention": {
            **_factory(CausalSelfAttention),
            "scale": _built(LogitScale, factor=1.0, power=0.5),
            "clamp": {"_target_": IDENTITY},
            "softmax": _built(StableSoftmax),
            "clip_qkv": {"_target_": IDENTITY},
            "qk_clip": _factory(NoQKClip),
        },
    }


def sizes_of(architecture: Architecture) -> LlamaSizes:
    """The numbers in a configuration; where it lacks a part that has them, any."""
    model = architecture["model"]
    return LlamaSizes(
        **{name: model[name] for name in ("width", "num_layers", "num_heads", "context_length")},
        hidden_width=model["ffn"].get("hidden_width", 1),
        eps=model["norm"].get("eps", 1.0),
        theta=model["position"].get("theta", 1.0),
        is_tied=model["tied_embedding"],
    )


def _built(part: Any, **values: Any) -> dict[str, Any]:
    return {"_target_": target_of(part), **values}


def _factory(part: Any, **values: Any) -> dict[str, Any]:
    return {**_built(part, **values), "_partial_": True}
