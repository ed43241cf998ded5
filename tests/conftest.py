"""Fixtures that several test folders share."""

from functools import partial

import pytest
import torch

from normlab.model.attention import CausalSelfAttention
from normlab.model.feed_forward import SwiGLU
from normlab.model.init import RoleScale, Xavier
from normlab.model.language_model import LanguageModel
from normlab.model.norms import RMSNorm
from normlab.model.placement import Placement
from normlab.model.position import RotaryPosition
from normlab.model.residual import PlainResidual

torch.set_num_threads(2)


@pytest.fixture
def micro() -> LanguageModel:
    """A model of two layers with the weights of seed 0; ``copy.deepcopy`` gives a second one."""
    model = LanguageModel(
        64,
        width=32,
        num_layers=2,
        num_heads=2,
        context_length=32,
        tied_embedding=False,
        attention=partial(CausalSelfAttention, clamp=torch.nn.Identity()),
        norm=partial(RMSNorm, eps=1e-5),
        placement=Placement(slots=["input", "final"]),
        residual=PlainResidual,
        position=partial(RotaryPosition, theta=10_000.0),
        ffn=partial(SwiGLU, hidden_width=64),
    )
    Xavier(scale=RoleScale(factor=1.0, roles=[])).fill(model, seed=0)
    return model
