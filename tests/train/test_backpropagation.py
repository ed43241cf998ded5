"""The compiled passes are the plain ones, and one compilation serves every model of the same structure."""

from contextlib import nullcontext

import torch
from tests.parts import attention_with, model_with
from torch._dynamo.utils import counters

from normlab.model.clamp import HardClamp
from normlab.model.language_model import LanguageModel
from normlab.model.loss import plain_loss
from normlab.train.backpropagation import Backpropagation, Batch


def some_batch(seed: int) -> Batch:
    tokens = torch.randint(23, (3, 9), generator=torch.Generator().manual_seed(seed))
    return Batch(tokens[:, :-1], tokens[:, 1:])


def passes_of(model: LanguageModel, compile: bool) -> Backpropagation:
    return Backpropagation(model, plain_loss, precision=nullcontext(), compile=compile)


def test_compiled_passes_are_the_plain_ones_and_shared_by_models_of_one_structure() -> None:
    graphs = []
    for seed, limit in enumerate((0.5, 0.3)):
        model = model_with(attention=attention_with(clamp=HardClamp(limit=limit)), seed=seed)
        plain, compiled = passes_of(model, compile=False), passes_of(model, compile=True)
        losses, gradients = [], []
        for passes in (plain, compiled):
            losses += [passes(some_batch(seed)), passes.cross_entropy(some_batch(seed))]
            gradients.append([parameter.grad for parameter in model.parameters()])
            model.zero_grad()
        torch.testing.assert_close(losses, losses[:1] * 4, rtol=1e-6, atol=0.0)
        torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-7)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    assert graphs[1] == graphs[0]


def test_validation_leaves_no_gradient() -> None:
    model = model_with()
    loss = passes_of(model, compile=False).cross_entropy(some_batch(0))
    assert not loss.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
