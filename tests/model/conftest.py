from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from normlab.model.attention import CausalSelfAttention
from normlab.model.feed_forward import SwiGLU
from normlab.model.init import RoleScale, Xavier
from normlab.model.language_model import LanguageModel
from normlab.model.norms import RMSNorm
from normlab.model.placement import Placement
from normlab.model.position import RotaryPosition
from normlab.model.residual import PlainResidual

torch.set_num_threads(2)


def small_model(*, vocab_size: int = 23, seed: int = 0, **overrides: Any) -> LanguageModel:
    parts: dict[str, Any] = {
        "width": 16,
        "num_layers": 2,
        "num_heads": 2,
        "context_length": 12,
        "tied_embedding": False,
        "attention": partial(CausalSelfAttention, clamp=nn.Identity()),
        "norm": partial(RMSNorm, eps=1e-5),
        "placement": Placement(slots=["input", "final"]),
        "residual": PlainResidual,
        "position": partial(RotaryPosition, theta=1e4),
        "ffn": partial(SwiGLU, hidden_width=24),
    }
    model = LanguageModel(vocab_size, **{**parts, **overrides})
    Xavier(scale=RoleScale(factor=1.0, roles=[])).fill(model, seed)
    return model


@pytest.fixture
def build_model() -> Callable[..., LanguageModel]:
    """A small drawn model in float32, any of its parts replaced by name."""
    return small_model
