"""A fatal step once more, under instruments: which value was the first that is not finite.

Shapes: ``B`` batch, ``T`` time.
"""

import math
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, optim

from normlab.autopsy.axes import Sizes
from normlab.autopsy.finding import FirstNonfinite
from normlab.autopsy.places import Places
from normlab.autopsy.preconditions import bad_tokens, bad_weight
from normlab.autopsy.untouched import untouched
from normlab.autopsy.update import overflow_in_update
from normlab.autopsy.watch import Watch
from normlab.model.attention import attention_spelt_out
from normlab.model.language_model import LanguageModel
from normlab.model.loss import Loss


def first_nonfinite(
    model: LanguageModel,
    optimizer: optim.Optimizer,
    loss: Loss,
    inputs_BT: Tensor,
    targets_BT: Tensor,
    *,
    lr: float,
    grad_clip: float | None,
    precision: AbstractContextManager[object],
) -> FirstNonfinite | None:
    """The first non-finite value of the step on this batch; None where everything that outlives the step is finite.

    That is loss, gradients, weights and moments. Model (not its compiled form) and optimizer stand as before the step,
    and do so again afterwards. A fatal step is run twice: fused attention hides its logits, so that in the second it is
    spelt out. An infinity that came first is named even where it alone would have vanished again, as x / inf does.
    """
    sizes = _sizes(model, inputs_BT)
    wrong_before = bad_tokens(model, inputs_BT, targets_BT, sizes) or bad_weight(model)
    if wrong_before is not None:
        return wrong_before
    with untouched(model, optimizer):
        as_it_ran = _watched_passes(model, loss, inputs_BT, targets_BT, sizes, precision)
        in_update = None
        if as_it_ran.are_finite:
            in_update = overflow_in_update(model, optimizer, lr=lr, grad_clip=grad_clip)
            if in_update is None:
                return None
    with untouched(model, optimizer), attention_spelt_out(model):
        spelt_out = _watched_passes(model, loss, inputs_BT, targets_BT, sizes, precision)
    return spelt_out.found or as_it_ran.found or in_update


class _Passes(NamedTuple):
    """What came of a forward and a backward pass; whether the cross-entropy and all gradients are finite."""

    found: FirstNonfinite | None
    are_finite: bool


def _watched_passes(
    model: LanguageModel,
    loss: Loss,
    inputs_BT: Tensor,
    targets_BT: Tensor,
    sizes: Sizes,
    precision: AbstractContextManager[object],
) -> _Passes:
    """Both passes, in one thread, so that what follows the forward pass can follow the backward pass too."""
    places = Places(model)
    watch = Watch(places, sizes, {parameter.data_ptr(): name for name, parameter in model.named_parameters()})
    with places.followed(), watch, torch.enable_grad(), torch.autograd.set_multithreading_enabled(False):
        with precision:
            logits_BTV = model(inputs_BT)
            with places.at("loss"):
                objective = loss(logits_BTV, targets_BT)
        objective.value.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    are_finite = math.isfinite(objective.cross_entropy.item()) and all(bool(g.isfinite().all()) for g in gradients)
    return _Passes(watch.found, are_finite)


def _sizes(model: LanguageModel, inputs_BT: Tensor) -> Sizes:
    batch, time = inputs_BT.shape
    num_heads = cast(Any, model.layers[0]).attention.num_heads
    return Sizes(batch, time, num_heads, {tuple(parameter.shape) for parameter in model.parameters()})
