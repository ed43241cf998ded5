"""A pack computes what each of its models computes alone.

Shapes: ``T`` time.
"""

import copy
import math
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from tests.parts import attention_with, model_with, no_norm
from torch import nn

from normlab.core.errors import ConfigError
from normlab.model.clamp import HardClamp, SoftClamp
from normlab.model.feed_forward import GELUFeedForward
from normlab.model.language_model import LanguageModel
from normlab.model.loss import Loss, plain_loss, z_loss
from normlab.model.norms import L2Norm, LayerNorm
from normlab.model.placement import DeepNorm
from normlab.model.position import LearnedPosition, NoPosition
from normlab.model.qk_clip import QKRescale
from normlab.model.residual import channels_each, shared_scalar
from normlab.model.saturating_norms import DynamicErf, DynamicTanh
from normlab.model.scalar_bias import ScalarBiasLinear
from normlab.model.sigma_reparam import SigmaReparamLinear
from normlab.model.softmax import NaiveSoftmax
from normlab.train.backpropagation import Backpropagation, Batch
from normlab.train.pack import Pack

NUM_RUNS, NUM_STEPS = 3, 2
DOUBLE_TOLERANCE, SINGLE_TOLERANCE = 1e-12, 1e-5
"""Of a loss, a weight, and a gradient relative to the largest of its model, against the same run alone."""
LIMITS = (0.05, 0.2, 30.0)
L2_NORM = partial(L2Norm, eps=1e-5)
POSTED = DeepNorm(sites=["attention", "ffn", "final"])

VARIANTS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "no norm, tied": {"norm": no_norm, "tied_embedding": True},
    "layer norm, gelu, learned": {
        "norm": partial(LayerNorm, eps=1e-5, has_bias=True),
        "ffn": partial(GELUFeedForward, hidden_width=24),
        "position": LearnedPosition,
    },
    "l2, deepnorm, qk norm": {"norm": L2_NORM, "placement": POSTED, "qk_norm": L2_NORM},
    "dyt": {"norm": partial(DynamicTanh, initial_alpha=0.5, has_bias=True), "position": NoPosition},
    "derf": {"norm": partial(DynamicErf, initial_alpha=0.5, initial_shift=0.0, has_bias=False)},
    "rezero": {"residual": partial(shared_scalar, initial=0.0)},
    "layerscale, scalar bias": {"residual": partial(channels_each, initial=0.1), "linear": ScalarBiasLinear},
    "naive softmax": {"attention": attention_with(softmax=NaiveSoftmax())},
    "qk clip": {"attention": attention_with(qk_clip=partial(QKRescale, threshold=0.1))},
    "sigma reparam": {"linear": partial(SigmaReparamLinear, initial_gain=None)},
}  # fmt: skip
CLAMPS = {
    "hard clamp": lambda limit: {"attention": attention_with(clamp=HardClamp(limit=limit))},
    "soft clamp": lambda limit: {"attention": attention_with(clamp=SoftClamp(limit=limit))},
    "clip qkv": lambda limit: {"attention": attention_with(clip_qkv=HardClamp(limit=limit))},
    "output cap": lambda limit: {"output_cap": SoftClamp(limit=limit)},
}


def models_of(variant: str) -> list[LanguageModel]:
    """One for each seed, and with a limit of its own where it has one."""
    if variant in CLAMPS:
        return [model_with(seed=seed, **CLAMPS[variant](limit)) for seed, limit in enumerate(LIMITS)]
    return [model_with(seed=seed, **VARIANTS[variant]) for seed in range(NUM_RUNS)]


def batch_of(seed: int) -> Batch:
    tokens = torch.randint(0, 23, (3, 13), generator=torch.Generator().manual_seed(seed))
    return Batch(tokens[:, :-1], tokens[:, 1:])


def pack_of(models: Sequence[nn.Module], loss: Loss = plain_loss) -> Pack:
    return Pack(models, loss, precision=nullcontext(), compile=False)


def stepped_alone(models: Sequence[LanguageModel], loss: Loss) -> list[float]:
    """The losses of some steps of gradient descent, run after run; the last gradients stay."""
    losses = []
    for run, model in enumerate(models):
        passes = Backpropagation(model, loss, precision=nullcontext(), compile=False)
        for step in range(NUM_STEPS):
            if step > 0:
                descend(model)
            losses.append(passes(batch_of(10 * step + run)).item())
    return losses


def stepped_together(models: Sequence[LanguageModel], loss: Loss) -> list[float]:
    pack, losses = pack_of(models, loss), []
    for step in range(NUM_STEPS):
        if step > 0:
            for model in models:
                descend(model)
        losses.append(pack([batch_of(10 * step + run) for run in range(len(models))]).tolist())
    return [of_run for losses_of_run in zip(*losses, strict=True) for of_run in losses_of_run]


@torch.no_grad()
def descend(model: LanguageModel) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.sub_(0.1 * parameter.grad)
            parameter.grad = None
    model.after_update()


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, DOUBLE_TOLERANCE), (torch.float32, SINGLE_TOLERANCE)], ids=str
)
@pytest.mark.parametrize("variant", [*VARIANTS, *CLAMPS])
def test_losses_weights_and_gradients_are_those_of_each_run_alone(
    variant: str, dtype: torch.dtype, tolerance: float
) -> None:
    alone = [model.to(dtype) for model in models_of(variant)]
    together = copy.deepcopy(alone)
    loss = partial(z_loss, coefficient=0.1) if variant == "baseline" else plain_loss
    assert stepped_together(together, loss) == pytest.approx(stepped_alone(alone, loss), rel=tolerance)
    for one, other in zip(alone, together, strict=True):
        scale = max(parameter.grad.abs().max().item() for parameter in one.parameters() if parameter.grad is not None)
        for (name, parameter), packed in zip(one.named_parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(packed, parameter, rtol=tolerance, atol=tolerance, msg=name)
            assert parameter.grad is not None and packed.grad is not None
            assert packed.grad.stride() == packed.stride()
            torch.testing.assert_close(packed.grad, parameter.grad, rtol=0, atol=10 * tolerance * scale, msg=name)
        for (name, buffer), packed in zip(one.named_buffers(), other.buffers(), strict=True):
            torch.testing.assert_close(packed, buffer, rtol=tolerance, atol=tolerance, msg=name)


def test_a_run_that_is_lost_leaves_every_bit_of_the_others() -> None:
    spoilt, sound = models_of("hard clamp"), models_of("hard clamp")
    with torch.no_grad():
        spoilt[1].get_parameter("layers.1.ffn.up.weight")[3, 4] = math.nan
    batches = [batch_of(run) for run in range(NUM_RUNS)]
    of_spoilt, of_sound = pack_of(spoilt)(batches), pack_of(sound)(batches)
    assert of_spoilt.isnan().tolist() == [False, True, False]
    for run in (0, 2):
        assert of_spoilt[run] == of_sound[run]
        for one, other in zip(spoilt[run].parameters(), sound[run].parameters(), strict=True):
            assert one.grad is not None and other.grad is not None and torch.equal(one.grad, other.grad)


def test_models_live_on_as_they_were_and_may_leave() -> None:
    models = models_of("soft clamp")
    expected = [model(batch_of(9).inputs_BT) for model in models]
    pack = pack_of(models)
    for model, logits in zip(models, expected, strict=True):
        torch.testing.assert_close(model(batch_of(9).inputs_BT), logits, rtol=0, atol=0)
    batches = [batch_of(run) for run in range(NUM_RUNS)]
    whole = pack(batches)
    left = {name: parameter.clone() for name, parameter in models[0].named_parameters()}
    smaller = pack.of([1, 2])
    torch.testing.assert_close(smaller(batches[1:]), whole[1:], rtol=SINGLE_TOLERANCE, atol=0)
    descend(models[2])
    assert all(torch.equal(left[name], parameter) for name, parameter in models[0].named_parameters())
    assert smaller(batches[1:])[0] == pack.of([1, 2])(batches[1:])[0] and smaller(batches[1:])[1] < whole[2]


def test_models_of_different_structure_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"same structure; 'token_embedding\.weight' is \(\(23, 16\)"):
        pack_of([model_with(), model_with(vocab_size=24)])
