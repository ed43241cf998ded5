"""AdamW against a transcription without torch, and which parameters decay."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from normlab.model.linear import Linear
from normlab.model.norms import LayerNorm
from normlab.optim.optimizers import adamw, decay_groups

torch.set_num_threads(2)

LR, BETAS, EPS, WEIGHT_DECAY = 0.03, (0.8, 0.95), 1e-6, 0.25
exactly = partial(torch.testing.assert_close, rtol=0, atol=1e-13)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = Linear(3, 2)
        self.norm = LayerNorm(2, eps=1e-5, has_bias=True)
        self.multiplier = nn.Parameter(torch.tensor(0.5))
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)


def small() -> Small:
    model = Small().double()
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, generator=generator)
    return model


def gradient(value: float, step: int) -> float:
    """Something that changes sign and size from step to step."""
    return value * math.cos(3 * step) + 0.1 * step


def transcribed(value: float, num_steps: int, weight_decay: float) -> float:
    """Loshchilov & Hutter 2019, algorithm 2, for one number; lr halves at step 6."""
    beta1, beta2 = BETAS
    m = v = 0.0
    for step in range(1, num_steps + 1):
        lr = LR if step < 6 else LR / 2
        g = gradient(value, step)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        m_hat, v_hat = m / (1 - beta1**step), v / (1 - beta2**step)
        value -= lr * (m_hat / (math.sqrt(v_hat) + EPS) + weight_decay * value)
    return value


@pytest.mark.parametrize("num_steps", [1, 10])
def test_steps_follow_the_algorithm(num_steps: int):
    model = small()
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = adamw(model, lr=LR, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY)
    for step in range(1, num_steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = LR if step < 6 else LR / 2
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.grad = parameter.detach().clone().apply_(lambda value, step=step: gradient(value, step))
        optimizer.step()

    for name, parameter in model.named_parameters():
        weight_decay = WEIGHT_DECAY if name == "linear.weight" else 0.0
        expected = start[name].clone().apply_(partial(transcribed, num_steps=num_steps, weight_decay=weight_decay))
        exactly(parameter.detach(), start[name] if name == "frozen" else expected)


def test_only_matrices_decay():
    model = small()
    decayed, others = decay_groups(model, 0.1)
    assert decayed == {"params": [model.linear.weight], "weight_decay": 0.1}
    assert others == {"params": [model.multiplier, model.norm.gain, model.norm.bias], "weight_decay": 0.0}


def test_a_tied_weight_is_in_one_group_once():
    model = small()
    model.register_module("twin", Linear(3, 2))
    model.get_submodule("twin").weight = model.linear.weight
    decayed, _ = decay_groups(model, 0.1)
    assert decayed["params"] == [model.linear.weight]


def test_without_a_gradient_weights_only_shrink():
    model = small()
    start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = adamw(model, lr=LR, betas=BETAS, eps=EPS, weight_decay=WEIGHT_DECAY)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    exactly(model.linear.weight.detach(), start["linear.weight"] * (1 - LR * WEIGHT_DECAY))
    exactly(model.norm.gain.detach(), start["norm.gain"])
