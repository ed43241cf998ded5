"""What a step in parts or on several devices comes to, without any other process.

Shapes: ``B`` batch, ``T`` time.
"""

import copy
import os
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from tests.parts import attention_with, model_with
from torch import Tensor

from normlab.model.loss import plain_loss, z_loss
from normlab.model.qk_clip import QKRescale
from normlab.model.sigma_reparam import SigmaReparamLinear
from normlab.telemetry.shares import joined_passes, joined_weights
from normlab.train.backpropagation import Backpropagation, Batch, in_parts
from normlab.train.distributed.passes import SharedPasses
from normlab.train.distributed.watch import _is_running
from normlab.train.distributed.world import ALONE, World

BATCH_SIZE, CONTEXT, VOCAB = 7, 12, 23


def batch() -> Batch:
    tokens_BT = torch.randint(VOCAB, (BATCH_SIZE, CONTEXT + 1), generator=torch.Generator().manual_seed(1))
    return Batch(tokens_BT[:, :-1], tokens_BT[:, 1:])


def shared(model: torch.nn.Module, batch_size: int, loss=plain_loss, world: World = ALONE) -> SharedPasses:
    passes = Backpropagation(model, loss, precision=nullcontext(), compile=False)
    return SharedPasses(passes, batch_size=batch_size, world=world)


def test_parts_are_the_batch_in_order_and_none_is_too_large() -> None:
    parts = in_parts(batch(), 3)
    assert [len(part.inputs_BT) for part in parts] == [3, 2, 2]
    assert torch.equal(torch.cat([part.inputs_BT for part in parts]), batch().inputs_BT)
    assert torch.equal(torch.cat([part.targets_BT for part in parts]), batch().targets_BT)


@pytest.mark.parametrize("loss", [plain_loss, partial(z_loss, coefficient=1e-2)])
@pytest.mark.parametrize("linear", [None, partial(SigmaReparamLinear, initial_gain=None)])
def test_loss_gradients_and_saved_buffers_of_parts_are_those_of_the_whole_batch(loss, linear) -> None:
    parts = {} if linear is None else {"linear": linear}
    model = model_with(vocab_size=VOCAB, **parts).double()
    other = copy.deepcopy(model)
    whole = shared(model, BATCH_SIZE, loss)(batch())
    assert shared(other, 2, loss)(batch()).item() == pytest.approx(whole.item(), rel=1e-12)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(two.grad, one.grad, rtol=1e-9, atol=1e-12)
    for one, two in zip(model.buffers(), other.buffers(), strict=True):
        assert torch.equal(one, two)


def test_a_batch_that_is_taken_at_once_is_bit_for_bit_what_it_was() -> None:
    model = model_with(vocab_size=VOCAB)
    other = copy.deepcopy(model)
    passes = Backpropagation(model, plain_loss, precision=nullcontext(), compile=False)
    assert torch.equal(passes(batch()), shared(other, BATCH_SIZE)(batch()))
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert one.grad is not None and two.grad is not None
        assert torch.equal(one.grad, two.grad)


class Beside(World):
    """A world of two, of which the other one has seen certain logits."""

    size = 2

    def __init__(self, other: Tensor):
        self._other = other

    def gathered(self, values: Tensor) -> Tensor:
        return torch.stack([values, self._other])


def test_weights_are_clipped_by_the_largest_logit_of_all_devices_and_a_nan_stays_one() -> None:
    attention = attention_with(qk_clip=partial(QKRescale, threshold=1.0))
    model = model_with(vocab_size=VOCAB, attention=attention)
    shared(model, 2, world=Beside(torch.tensor([[1e3, -1e3], [torch.nan, 1e3]])))(batch())
    bounds = [module.largest_logit_H for module in model.modules() if isinstance(module, QKRescale)]
    assert bounds[0][0] == 1e3
    assert -1e3 < bounds[0][1] < 1e3
    assert bounds[1][0].isnan()
    assert bounds[1][1] == 1e3


def test_statistics_of_parts_and_devices_are_those_of_all_of_it() -> None:
    generator = torch.Generator().manual_seed(2)
    values = torch.randn(2, 6, generator=generator, dtype=torch.float64)  # two devices, each in parts of 4 and 2
    parts = [[device[:4], device[4:]] for device in values]
    tags = ["activation_rms/x", "activation_absmax/x", "clamp_hit_rate/x"]

    def statistics(x: Tensor) -> Tensor:
        return torch.stack([x.square().mean().sqrt(), x.abs().max(), (x > 0.5).double().mean()])

    values_RPN = torch.stack([torch.stack([statistics(part) for part in device]) for device in parts])
    joined = joined_passes(tags, values_RPN, torch.tensor([4.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(joined, statistics(values.flatten()))


def test_a_nan_in_one_part_is_seen_in_every_kind_of_statistic() -> None:
    values_RPN = torch.ones(2, 2, 3, dtype=torch.float64)
    values_RPN[1, 0] = torch.nan
    tags = ["activation_rms/x", "attention_logit_max/x", "attention_entropy/x"]
    assert joined_passes(tags, values_RPN, torch.ones(2, dtype=torch.float64)).isnan().all()


def test_norms_of_spread_weights_are_those_of_whole_ones() -> None:
    tags = ["weight_norm/a", "update_norm/a", "update_ratio/a"]
    here_and_there = torch.tensor([[3.0, 0.6, 0.2], [4.0, 0.8, 0.2]])
    torch.testing.assert_close(joined_weights(tags, here_and_there, are_spread=True), torch.tensor([5.0, 1.0, 0.2]))
    assert torch.equal(joined_weights(tags, here_and_there, are_spread=False), here_and_there[0])


def test_a_process_that_nobody_has_asked_for_is_not_running() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    while _is_running(child):
        pass
    assert os.waitpid(child, 0)[0] == child
    assert _is_running(os.getpid())
