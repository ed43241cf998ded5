"""One step: what it does to the weights, and that nothing non-finite ever reaches them."""

import copy
import math
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional

from normlab.model.language_model import LanguageModel
from normlab.model.loss import plain_loss
from normlab.optim.adamw import adamw
from normlab.train.backpropagation import Backpropagation, Batch
from normlab.train.step import StepResult, training_step


def some_batch(model: LanguageModel, seed: int = 0) -> Batch:
    tokens = torch.randint(model.vocab_size, (3, 17), generator=torch.Generator().manual_seed(seed))
    return Batch(tokens[:, :-1], tokens[:, 1:])


def adamw_for(model: nn.Module) -> torch.optim.AdamW:
    return adamw(model, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)


def take(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, grad_clip: float | None = None, lr=1e-2):
    passes = Backpropagation(model, plain_loss, precision=nullcontext(), compile=False)
    return training_step(model, optimizer, passes, batch, lr=lr, grad_clip=grad_clip)


def bits(tensors) -> list[bytes]:
    return [tensor.detach().numpy().tobytes() for tensor in tensors]


def optimizer_bits(optimizer: torch.optim.Optimizer) -> list[bytes]:
    return bits(tensor for state in optimizer.state.values() for tensor in state.values())


@pytest.mark.parametrize("grad_clip", [None, 0.1])
def test_a_step_is_forward_backward_clip_and_update(micro: LanguageModel, grad_clip: float | None) -> None:
    batch, twin = some_batch(micro), copy.deepcopy(micro)
    result = take(micro, adamw_for(micro), batch, grad_clip, lr=0.003)

    loss = functional.cross_entropy(twin(batch.inputs_BT).flatten(0, 1), batch.targets_BT.flatten())
    loss.backward()
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in twin.parameters() if p.grad is not None))
    if grad_clip is not None:
        assert norm > grad_clip
        nn.utils.clip_grad_norm_(twin.parameters(), grad_clip)
    matrices, vectors = ([p for p in twin.parameters() if (p.ndim > 1) == wanted] for wanted in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    torch.optim.AdamW(groups, lr=0.003, betas=(0.9, 0.95), fused=True).step()

    assert result.loss == loss.item()
    assert result.grad_norm == pytest.approx(norm, rel=1e-5)
    assert bits(micro.parameters()) == bits(twin.parameters())


def test_the_learning_rate_of_the_step_reaches_every_group(micro: LanguageModel) -> None:
    optimizer = adamw_for(micro)
    take(micro, optimizer, some_batch(micro), lr=0.125)
    assert [group["lr"] for group in optimizer.param_groups] == [0.125, 0.125]


def test_gradients_do_not_outlive_the_step(micro: LanguageModel) -> None:
    optimizer, twin = adamw_for(micro), copy.deepcopy(micro)
    take(micro, optimizer, some_batch(micro))
    assert all(parameter.grad is None for parameter in micro.parameters())
    second = take(micro, optimizer, some_batch(micro, seed=1))

    fresh = adamw_for(twin)
    take(twin, fresh, some_batch(twin))
    twin.zero_grad()
    assert take(twin, fresh, some_batch(twin, seed=1)) == second


class WithPoisonedLoss(nn.Module):
    """A model whose logits are multiplied by a number."""

    def __init__(self, model: nn.Module, factor: float):
        super().__init__()
        self.model = model
        self.factor = factor

    def forward(self, tokens):
        return self.model(tokens) * self.factor


@pytest.mark.parametrize("factor", [math.nan, math.inf])
@pytest.mark.parametrize("grad_clip", [None, 1.0])
def test_a_nonfinite_loss_leaves_weights_and_optimizer_as_they_were(
    micro: LanguageModel, factor: float, grad_clip: float | None
) -> None:
    optimizer = adamw_for(micro)
    take(micro, optimizer, some_batch(micro))
    before = bits(micro.parameters()), optimizer_bits(optimizer)
    result = take(WithPoisonedLoss(micro, factor), optimizer, some_batch(micro), grad_clip)
    assert not math.isfinite(result.loss)
    assert not result.is_finite
    assert (bits(micro.parameters()), optimizer_bits(optimizer)) == before
    assert all(parameter.grad is None for parameter in micro.parameters())


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("grad_clip", [None, 1.0])
def test_a_nonfinite_gradient_under_a_finite_loss_does_so_too(
    micro: LanguageModel, poison: float, grad_clip: float | None
) -> None:
    optimizer = adamw_for(micro)
    take(micro, optimizer, some_batch(micro))
    before = bits(micro.parameters()), optimizer_bits(optimizer)
    hook = micro.head.weight.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([5]), poison))
    result = take(micro, optimizer, some_batch(micro), grad_clip)
    assert math.isfinite(result.loss)
    assert not math.isfinite(result.grad_norm)
    assert (bits(micro.parameters()), optimizer_bits(optimizer)) == before

    hook.remove()
    assert take(micro, optimizer, some_batch(micro), grad_clip).is_finite
    assert bits(micro.parameters()) != before[0]


def test_an_update_that_overflows_is_told_by_the_weights_it_leaves(micro: LanguageModel) -> None:
    optimizer = torch.optim.SGD(micro.parameters(), lr=1.0)
    assert take(micro, optimizer, some_batch(micro), lr=1e-3).is_finite
    micro.head.weight.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([5]), 10.0))
    result = take(micro, optimizer, some_batch(micro), lr=3e38)
    assert (math.isfinite(result.loss), result.has_damaged_weights, result.is_finite) == (True, True, False)


@pytest.mark.parametrize(
    "result",
    [
        StepResult(math.nan, 1.0, False),
        StepResult(1.0, math.nan, False),
        StepResult(math.inf, 1.0, False),
        StepResult(1.0, math.inf, False),
        StepResult(1.0, 1.0, True),
    ],
)
def test_a_result_is_finite_only_if_both_its_numbers_and_the_weights_are(result: StepResult) -> None:
    assert StepResult(1.0, 1.0, False).is_finite
    assert not result.is_finite
