"""Clamped attention without its logits in memory, by kernel and in chunks, against the explicit form."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.parts import attention_with, model_with, no_norm
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.func import functional_call, vmap

from normlab.model import attention_kernel, chunked_attention, flex_attention, native_code
from normlab.model.attention import (
    ClampedAttention,
    ExplicitAttention,
    FusedAttention,
    attention_spelt_out,
    observe_nothing,
)
from normlab.model.clamp import HardClamp, SoftClamp
from normlab.model.linear import Linear
from normlab.model.softmax import StableSoftmax

pytestmark = pytest.mark.skipif(not attention_kernel.is_available(), reason="no C++ compiler")
SCALE = 0.35
Heads = tuple[Tensor, Tensor, Tensor]
KINDS = [nn.Identity(), HardClamp(limit=0.7), SoftClamp(limit=1.3)]


class Bent(nn.Module):
    """A clamp of a user's own, with a parameter to learn."""

    def __init__(self):
        super().__init__()
        self.bound = nn.Parameter(torch.tensor(1.5))

    def forward(self, logits: Tensor) -> Tensor:
        return self.bound * logits / (self.bound + logits.abs())


def heads(*shape: int, dtype: torch.dtype = torch.float32, size: float = 1.0) -> Heads:
    """Queries, keys, values as projections give them: in memory by time, then heads."""
    *lead, num_heads, num_tokens, width = shape
    drawn = torch.randn(3, *lead, num_tokens, num_heads, width, generator=torch.Generator().manual_seed(0))
    query, key, value = ((size * x).to(dtype).transpose(-3, -2).requires_grad_() for x in drawn)
    return query, key, value


def clamped(clamp: nn.Module) -> ClampedAttention:
    return ClampedAttention(SCALE, clamp, StableSoftmax())


def explicit(clamp: nn.Module) -> ExplicitAttention:
    return ExplicitAttention(SCALE, clamp, StableSoftmax(), observe_nothing)


def outcome(attend: Callable[..., Tensor], inputs: Sequence[Tensor], *others: Tensor) -> list[Tensor]:
    """Values and gradients."""
    output = attend(*inputs)
    cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).to(output.dtype)
    return [output, *torch.autograd.grad(output, [*inputs, *others], cotangent)]


def agree(given: Sequence[Tensor], expected: Sequence[Tensor], *, tolerance: float) -> None:
    """Within ``tolerance`` of the largest value of each tensor."""
    for x, y in zip(given, expected, strict=True):
        torch.testing.assert_close(x.double(), y.double(), rtol=0, atol=tolerance * max(1.0, y.abs().max().item()))


@pytest.mark.parametrize("clamp", KINDS, ids=str)
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1), (2, 3, 33, 8), (3, 64, 32), (1, 2, 200, 48), (2, 1, 2, 65, 16)], ids=str
)
def test_the_kernel_equals_the_formula_in_float64(clamp: nn.Module, shape: tuple[int, ...]):
    inputs = heads(*shape)
    assert attention_kernel.serves(*inputs, clamp)
    in_float64 = [x.detach().double().requires_grad_() for x in inputs]
    agree(outcome(clamped(clamp), inputs), outcome(explicit(clamp), in_float64), tolerance=3e-6)


@pytest.mark.parametrize("clamp", KINDS, ids=str)
def test_in_bfloat16_the_kernel_rounds_inputs_and_outputs_only(clamp: nn.Module):
    inputs = heads(2, 3, 130, 32, dtype=torch.bfloat16)
    in_float64 = [x.detach().double().requires_grad_() for x in inputs]
    results = outcome(clamped(clamp), inputs)
    assert {x.dtype for x in results} == {torch.bfloat16}
    agree(results, outcome(explicit(clamp), in_float64), tolerance=2**-7)


@pytest.mark.parametrize("limit", [30.0, 200.0])
@pytest.mark.parametrize("kind", [HardClamp, SoftClamp])
def test_large_logits_keep_the_precision_of_small_ones(kind: Callable[..., nn.Module], limit: float):
    """Some logits far beyond the limit, some far below: a row's maximum and sum are kept apart."""
    inputs, clamp = heads(2, 2, 70, 16, size=6.0), kind(limit=limit)
    in_float64 = [x.detach().double().requires_grad_() for x in inputs]
    expected = outcome(explicit(clamp), in_float64)
    plain = outcome(explicit(clamp), inputs)
    rounding = max((x - y).abs().max().item() / y.abs().max().item() for x, y in zip(plain, expected, strict=True))
    for x, y in zip(outcome(clamped(clamp), inputs), expected, strict=True):
        assert (x - y).abs().max() <= 4 * rounding * y.abs().max()


def test_at_the_limit_a_logit_still_learns():
    query = torch.tensor([0.5, 1.0, 1.0001]).view(1, 3, 1, 1).repeat(1, 1, 2, 1).requires_grad_()
    key = value = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1).repeat(1, 3, 1, 1)
    attend = ClampedAttention(1.0, HardClamp(limit=1.0), StableSoftmax())
    [gradient] = torch.autograd.grad(attend(query, key, value)[..., 1, 0].sum(), query)
    assert [bool(g) for g in gradient[0, :, 1, 0]] == [True, True, False]


@pytest.mark.parametrize("clamp", [HardClamp(limit=0.7), SoftClamp(limit=1.3), Bent()], ids=str)
@pytest.mark.parametrize("num_tokens", [1, 128, 300])
def test_in_chunks_everything_is_as_the_explicit_form_makes_it(clamp: nn.Module, num_tokens: int):
    """In float64, which no kernel serves, and for a clamp that none knows: its parameter learns too."""
    clamp.double()
    inputs = heads(2, 2, num_tokens, 4, dtype=torch.float64)
    agree(
        outcome(clamped(clamp), inputs, *clamp.parameters()),
        outcome(explicit(clamp), inputs, *clamp.parameters()),
        tolerance=1e-12,
    )
    clamp.float()


@pytest.mark.parametrize("clamp", [HardClamp(limit=0.7), SoftClamp(limit=1.3), Bent()], ids=str)
def test_no_query_sees_a_later_key(clamp: nn.Module):
    inputs, attend = heads(1, 2, 140, 16), clamped(clamp)
    for t in (0, 31, 32, 127, 128, 138):
        _, of_keys, of_values = torch.autograd.grad(attend(*inputs)[..., t, :].sum(), inputs)
        assert (of_keys[..., t + 1 :, :] == 0).all()
        assert (of_values[..., t + 1 :, :] == 0).all()
        assert (of_values[..., : t + 1, :] != 0).all()


@pytest.mark.parametrize("poison", [torch.inf, torch.nan])
def test_what_is_not_finite_comes_out_and_the_future_stays_hidden(poison: float):
    query, key, value = (x.detach().clone() for x in heads(1, 2, 80, 16))
    clean = clamped(HardClamp(limit=0.7))(query, key, value)
    key[..., 70, :] = poison
    poisoned = clamped(HardClamp(limit=0.7))(query, key, value)
    expected = explicit(HardClamp(limit=0.7))(query, key, value)
    assert torch.equal(poisoned[..., :70, :], clean[..., :70, :])
    assert torch.equal(poisoned.isnan(), expected.isnan())
    assert poisoned[..., 70:, :].isnan().any()


def squared(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([x.square().sum() for x in tensors]).sum()


def saved_bytes(attend: nn.Module, num_tokens: int, dtype: torch.dtype) -> int:
    """What is kept between forward and backward pass; views of one memory count once."""
    kept: dict[int, Tensor] = {}

    def keep(x: Tensor) -> Tensor:
        return kept.setdefault(x.untyped_storage().data_ptr(), x)

    with saved_tensors_hooks(keep, lambda x: x):
        attend(*heads(1, 2, num_tokens, 16, dtype=dtype))
    return sum(x.untyped_storage().nbytes() for x in kept.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("clamp", [HardClamp(limit=0.7), SoftClamp(limit=1.3), Bent()], ids=str)
def test_memory_grows_linearly_with_the_context(clamp: nn.Module, dtype: torch.dtype):
    short, long = (saved_bytes(clamped(clamp), num_tokens, dtype) for num_tokens in (256, 512))
    assert long <= 2 * short
    assert saved_bytes(explicit(clamp), 512, dtype) > 3.5 * saved_bytes(explicit(clamp), 256, dtype)


@pytest.mark.parametrize(("kind", "num_tokens"), [(HardClamp, 70), (SoftClamp, 70), (HardClamp, 150)])
def test_runs_side_by_side_have_their_own_limits(kind: Callable[..., nn.Module], num_tokens: int):
    dtype = torch.float32 if num_tokens < 100 else torch.float64  # by kernel, in chunks
    inputs, limits = heads(3, 2, 2, num_tokens, 16, dtype=dtype), torch.tensor([0.3, 1.0, 2.0], dtype=torch.float64)
    attend = clamped(kind(limit=9.0))
    side_by_side = outcome(
        lambda *heads: vmap(partial(functional_call, attend))({"clamp.limit_tensor": limits}, heads), inputs
    )
    alone = [explicit(kind(limit=limit.item())) for limit in limits]
    expected = outcome(lambda *heads: torch.stack([alone[r](*(x[r] for x in heads)) for r in range(3)]), inputs)
    assert side_by_side[0].dtype == dtype
    agree(side_by_side, expected, tolerance=3e-6)


@pytest.mark.parametrize("clamp", [HardClamp(limit=0.7), Bent()], ids=str)
def test_what_runs_share_may_come_unstacked(clamp: nn.Module):
    [query, _, _], [_, key, value] = heads(3, 2, 2, 40, 16), heads(2, 2, 40, 16)
    shared = vmap(clamped(clamp), in_dims=(0, None, None))
    agree(
        outcome(shared, [query, key, value]),
        outcome(lambda q, k, v: torch.stack([explicit(clamp)(one, k, v) for one in q]), [query, key, value]),
        tolerance=3e-6,
    )


def test_compiled_it_is_one_graph_for_all_limits():
    num_graphs = 0

    def counting(graph: torch.fx.GraphModule, inputs: Any) -> Any:
        nonlocal num_graphs
        num_graphs += 1
        return graph

    compiled = torch.compile(lambda attend, *heads: attend(*heads), backend=counting, fullgraph=True, dynamic=False)
    inputs = heads(1, 2, 40, 16)
    for limit in (0.3, 0.7, 2.0):
        attend = clamped(HardClamp(limit=limit))
        agree(outcome(partial(compiled, attend), inputs), outcome(explicit(attend.clamp), inputs), tolerance=3e-6)
    assert num_graphs == 1


def test_the_operation_keeps_torchs_rules():
    """Its schema, its shapes without data, its gradients: what torch.compile relies on."""
    inputs, limit = heads(2, 2, 40, 16), torch.tensor([0.7])
    torch.library.opcheck(torch.ops.normlab.attention.default, (*inputs, limit, 1, SCALE))


def test_autocast_takes_queries_and_keys_to_its_type_whatever_theirs():
    query, key, value = heads(1, 2, 40, 16)
    for attend in (clamped(HardClamp(limit=0.7)), FusedAttention(SCALE)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            mixed, rounded = attend(query, key, value.bfloat16()), attend(*(x.bfloat16() for x in (query, key, value)))
        assert mixed.dtype == torch.bfloat16
        assert torch.equal(mixed, rounded)


def test_plain_attention_runs_on_the_kernel_too(monkeypatch: pytest.MonkeyPatch):
    inputs, calls = heads(1, 2, 40, 16), []
    monkeypatch.setattr(
        "normlab.model.attention.kernel_attention",
        lambda *args, **kwargs: calls.append(args[0].dtype) or attention_kernel.kernel_attention(*args, **kwargs),
    )
    FusedAttention(SCALE)(*inputs)
    FusedAttention(SCALE)(*(x.bfloat16() for x in inputs))
    assert calls == [torch.float32, torch.bfloat16]


def test_without_a_compiler_it_runs_in_chunks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    native_code.load_native.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native_code, "FLAGS", ["--no-such-flag"])
    attend = clamped(HardClamp(limit=0.7))
    native_code.load_native.cache_clear()
    inputs = heads(1, 2, 150, 16)
    assert not attend.has_kernel
    agree(outcome(attend, inputs), outcome(explicit(attend.clamp), inputs), tolerance=3e-6)


def test_spelt_out_has_second_derivatives_and_the_same_first_ones():
    model = model_with(attention=attention_with(clamp=SoftClamp(limit=1.3)))
    tokens, parameters = torch.arange(10)[None], list(model.parameters())
    plain = torch.autograd.grad(model(tokens).square().mean(), parameters)
    with attention_spelt_out(model):
        first = torch.autograd.grad(model(tokens).square().mean(), parameters, create_graph=True)
    agree(list(first), list(plain), tolerance=3e-6)
    second = torch.autograd.grad(squared(first), parameters)
    assert all(g.isfinite().all() for g in second)
    with pytest.raises(RuntimeError):
        again = torch.autograd.grad(model(tokens).square().mean(), parameters, create_graph=True)
        torch.autograd.grad(squared(again), parameters)


def test_a_clamp_of_ones_own_works_within_the_sublayer():
    made = attention_with(clamp=Bent())(8, 2, lambda x, positions=None: x, Linear, no_norm)
    assert isinstance(made.attend, ClampedAttention)
    for module in (made.query, made.key, made.value, made.out):
        nn.init.normal_(module.weight)
    x = torch.randn(2, 9, 8, requires_grad=True)
    y = made(x)
    with attention_spelt_out(made):
        torch.testing.assert_close(y, made(x))


@pytest.mark.filterwarnings("ignore:.*flex_attention.*")
@pytest.mark.parametrize("clamp", [HardClamp(limit=0.7), SoftClamp(limit=1.3)], ids=str)
def test_what_runs_on_cuda_is_the_same_formula(clamp: nn.Module):
    """Uncompiled on CPU, where FlexAttention has no gradients."""
    query, key, value = (x.detach() for x in heads(1, 2, 128, 16))
    agree(
        [flex_attention.clamped_flex(query, key, value, SCALE, clamp)],
        [explicit(clamp)(query, key, value)],
        tolerance=3e-6,
    )


def test_on_cuda_the_choice_falls_on_flex_attention_only_for_clamps_that_are_known():
    class OnCuda(torch.Tensor):
        device = torch.device("cuda")  # type: ignore[assignment]

    query = torch.randn(1, 2, 40, 16).as_subclass(OnCuda)
    assert not attention_kernel.serves(query, query, query, HardClamp(limit=1.0))
    assert flex_attention.serves(query, HardClamp(limit=1.0))
    assert not flex_attention.serves(query, Bent())
    assert not flex_attention.serves(query[..., :8], HardClamp(limit=1.0))
    assert not flex_attention.serves(torch.randn(1, 2, 40, 16), HardClamp(limit=1.0))


def test_chunks_end_where_the_context_ends():
    seen: list[tuple[int, int]] = []

    def attend(query: Tensor, key: Tensor, value: Tensor, visible: Tensor) -> Tensor:
        seen.append((query.shape[-2], key.shape[-2]))
        assert visible.sum() == sum(range(key.shape[-2] - query.shape[-2] + 1, key.shape[-2] + 1))
        return query

    chunked_attention.in_chunks(attend, *heads(1, 300, 4))
    size = chunked_attention.QUERIES_AT_ONCE
    assert seen == [(size, size), (size, 2 * size), (300 - 2 * size, 300)]
    assert math.prod(seen[-1]) <= size * 300
