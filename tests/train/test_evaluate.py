"""Validation loss: the mean over tokens, however they are divided into batches."""

import math
from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from normlab.model.language_model import LanguageModel
from normlab.model.loss import plain_loss
from normlab.train.backpropagation import Backpropagation, Batch
from normlab.train.evaluate import validation_loss


def cross_entropy_of(model: LanguageModel) -> Callable[[Batch], Tensor]:
    return Backpropagation(model, plain_loss, precision=nullcontext(), compile=False).cross_entropy


def test_it_is_the_mean_over_all_tokens_also_where_the_last_batch_is_short(micro: LanguageModel) -> None:
    tokens = torch.randint(micro.vocab_size, (7, 33), generator=torch.Generator().manual_seed(0))
    tokens[6] = 0  # its loss differs from that of the others, and so does a mean over batches
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    batches = [Batch(inputs[part], targets[part]) for part in (slice(0, 3), slice(3, 6), slice(6, 7))]
    measured = validation_loss(cross_entropy_of(micro), batches)

    with torch.no_grad():
        logits = micro.double()(inputs)
    expected = functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).item()
    assert measured == pytest.approx(expected, rel=1e-6)
    mean_over_batches = sum(validation_loss(cross_entropy_of(micro), [batch]) for batch in batches) / 3
    assert abs(mean_over_batches - expected) > 1e-3


def test_it_leaves_no_gradient_behind(micro: LanguageModel) -> None:
    tokens = torch.zeros(1, 4, dtype=torch.long)
    validation_loss(cross_entropy_of(micro), [Batch(tokens, tokens)])
    assert all(parameter.grad is None for parameter in micro.parameters())


def test_a_nan_in_any_batch_is_seen(micro: LanguageModel) -> None:
    tokens = torch.zeros(1, 4, dtype=torch.long)
    with torch.no_grad():
        micro.token_embedding.weight[1] = math.nan
    batches = [Batch(tokens, tokens), Batch(tokens + 1, tokens), Batch(tokens, tokens)]
    assert math.isfinite(validation_loss(cross_entropy_of(micro), batches[:1]))
    assert math.isnan(validation_loss(cross_entropy_of(micro), batches))


def test_there_is_no_loss_without_tokens(micro: LanguageModel) -> None:
    assert math.isnan(validation_loss(cross_entropy_of(micro), []))
