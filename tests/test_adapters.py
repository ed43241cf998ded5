"""The handout's interface, every function against a reference that is not the project's."""

import io
import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from .adapters import (
    get_adamw_cls,
    get_tokenizer,
    run_cross_entropy,
    run_embedding,
    run_get_batch,
    run_get_lr_cosine_schedule,
    run_gradient_clipping,
    run_linear,
    run_load_checkpoint,
    run_multihead_self_attention,
    run_multihead_self_attention_with_rope,
    run_rmsnorm,
    run_rope,
    run_save_checkpoint,
    run_scaled_dot_product_attention,
    run_silu,
    run_softmax,
    run_swiglu,
    run_train_bpe,
    run_transformer_block,
    run_transformer_lm,
)

torch.set_num_threads(2)

exactly = partial(torch.testing.assert_close, rtol=0, atol=1e-12)
# Rotary tables are float32, whose rounding is 2^-24 = 6e-8 of a cosine.
closely = partial(torch.testing.assert_close, rtol=0, atol=2e-6)
THETA = 1e4
LEADING = [(), (3,), (2, 3)]
Weights = dict[str, Tensor]


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# The references, written from the formulas.


def turned(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)))
    frequency = theta ** (-2 * torch.arange(pairs.shape[-1], dtype=torch.float64) / x.shape[-1])
    return torch.view_as_real(pairs * torch.exp(1j * positions[..., None] * frequency)).flatten(-2)


def rms(x: Tensor, gain: Tensor) -> Tensor:
    return gain * x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()


def attended(x: Tensor, num_heads: int, w: list[Tensor], positions: Tensor | None = None) -> Tensor:
    """Head by head, with no reshaping: each takes its own rows of the stacked projections."""
    query_weights, key_weights, value_weights, out_weight = (*(weight.chunk(num_heads) for weight in w[:3]), w[3])
    future = torch.ones(x.shape[-2], x.shape[-2]).triu(1).bool()
    heads = []
    for query_weight, key_weight, value_weight in zip(query_weights, key_weights, value_weights, strict=True):
        query, key, value = x @ query_weight.T, x @ key_weight.T, x @ value_weight.T
        if positions is not None:
            query, key = turned(query, positions, THETA), turned(key, positions, THETA)
        logits = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        heads.append(torch.softmax(logits.masked_fill(future, -torch.inf), -1) @ value)
    return torch.cat(heads, -1) @ out_weight.T


def swiglu(x: Tensor, w1: Tensor, w2: Tensor, w3: Tensor) -> Tensor:
    gate = x @ w1.T
    return (gate * torch.sigmoid(gate) * (x @ w3.T)) @ w2.T


def block(x: Tensor, num_heads: int, w: Weights) -> Tensor:
    projections = [w[f"attn.{name}_proj.weight"] for name in ("q", "k", "v", "output")]
    x = x + attended(rms(x, w["ln1.weight"]), num_heads, projections, torch.arange(x.shape[-2]))
    return x + swiglu(rms(x, w["ln2.weight"]), *(w[f"ffn.w{n}.weight"] for n in (1, 2, 3)))


def block_weights(width: int, hidden: int, seed: int = 0) -> Weights:
    shapes = {
        **{f"attn.{name}_proj.weight": (width, width) for name in ("q", "k", "v", "output")},
        "ln1.weight": (width,),
        "ffn.w1.weight": (hidden, width),
        "ffn.w2.weight": (width, hidden),
        "ffn.w3.weight": (hidden, width),
        "ln2.weight": (width,),
    }
    return {name: normal(*shape, seed=seed + n) / 2 for n, (name, shape) in enumerate(shapes.items())}


def assert_same_gradients(
    y: Tensor, expected: Tensor, inputs: list[Tensor], close: Callable[..., None] = exactly
) -> None:
    cotangent = normal(*y.shape, seed=99)
    found = torch.autograd.grad(y, inputs, cotangent)
    for gradient, wanted in zip(found, torch.autograd.grad(expected, inputs, cotangent), strict=True):
        close(gradient, wanted)


# Layers.


@pytest.mark.parametrize("leading", LEADING)
def test_linear(leading: tuple[int, ...]):
    weights, x = normal(5, 3).requires_grad_(), normal(*leading, 3, seed=1).requires_grad_()
    y, expected = run_linear(3, 5, weights, x), torch.einsum("oi,...i->...o", weights, x)
    exactly(y, expected)
    assert_same_gradients(y, expected, [weights, x])


@pytest.mark.parametrize("leading", LEADING)
def test_embedding(leading: tuple[int, ...]):
    weights = normal(7, 3)
    token_ids = torch.randint(7, leading, generator=torch.Generator().manual_seed(0))
    one_hot = (token_ids[..., None] == torch.arange(7)).double()
    exactly(run_embedding(7, 3, weights, token_ids), one_hot @ weights)


@pytest.mark.parametrize("leading", LEADING)
def test_swiglu(leading: tuple[int, ...]):
    w1, w2, w3 = (normal(*shape, seed=n).requires_grad_() for n, shape in enumerate([(8, 4), (4, 8), (8, 4)]))
    x = normal(*leading, 4, seed=5).requires_grad_()
    y, expected = run_swiglu(4, 8, w1, w2, w3, x), swiglu(x, w1, w2, w3)
    exactly(y, expected)
    assert_same_gradients(y, expected, [w1, w2, w3, x])


@pytest.mark.parametrize("leading", LEADING)
def test_rmsnorm(leading: tuple[int, ...]):
    weights, x = normal(6).requires_grad_(), normal(*leading, 6, seed=1).requires_grad_()
    y, expected = run_rmsnorm(6, 0.1, weights, x), functional.rms_norm(x, [6], weights, eps=0.1)
    exactly(y, expected)
    assert_same_gradients(y, expected, [weights, x])


def test_silu():
    x = torch.linspace(-20, 20, 41, dtype=torch.float64)
    exactly(run_silu(x), torch.from_numpy(x.numpy() / (1 + np.exp(-x.numpy()))))


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax(dim: int):
    x = normal(3, 4, 5)
    powers = np.exp(x.numpy())
    exactly(run_softmax(x, dim), torch.from_numpy(powers / powers.sum(axis=dim, keepdims=True)))
    exactly(run_softmax(x + 1e4, dim), run_softmax(x, dim), atol=1e-11)


def test_cross_entropy():
    inputs, targets = normal(8, 5), torch.tensor([1, 0, 2, 2, 4, 1, 4, 0])
    powers = np.exp(inputs.numpy())
    likelihoods = (powers / powers.sum(-1, keepdims=True))[np.arange(8), targets.numpy()]
    loss = run_cross_entropy(inputs, targets)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(-np.log(likelihoods).mean(), abs=1e-12)
    large = run_cross_entropy(1000 * inputs, targets)
    exactly(large, functional.cross_entropy(1000 * inputs, targets), atol=1e-9)
    assert large.isfinite()


# Attention.


@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("has_mask", [True, False])
def test_scaled_dot_product_attention(has_mask: bool, leading: tuple[int, ...]):
    query, key, value = (
        normal(*leading, *shape, seed=n).requires_grad_() for n, shape in enumerate([(3, 4), (5, 4), (5, 6)])
    )
    mask = None
    if has_mask:
        mask = torch.rand(*leading, 3, 5, generator=torch.Generator().manual_seed(0)) < 0.5
        mask[..., 2] = True
    y = run_scaled_dot_product_attention(query, key, value, mask)
    expected = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert y.shape == (*leading, 3, 6)
    exactly(y, expected)
    assert_same_gradients(y, expected, [query, key, value])


@pytest.mark.parametrize("leading", LEADING)
@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_multihead_self_attention(num_heads: int, leading: tuple[int, ...]):
    w = [normal(8, 8, seed=n).requires_grad_() for n in range(4)]
    x = normal(*leading, 5, 8, seed=5).requires_grad_()
    y, expected = run_multihead_self_attention(8, num_heads, *w, in_features=x), attended(x, num_heads, w)
    exactly(y, expected, atol=1e-11)
    assert_same_gradients(y, expected, [*w, x], partial(exactly, atol=1e-10))


@pytest.mark.parametrize(
    ("leading", "positions"),
    [
        ((), None),
        ((2, 3), None),
        ((), torch.tensor([4, 2, 0, 31, 8])),
        ((2,), torch.tensor([4, 2, 0, 31, 8])),
        ((2,), torch.tensor([[0, 1, 2, 3, 4]])),
        ((2,), torch.tensor([[0, 1, 2, 3, 4], [20, 21, 25, 3, 9]])),
        ((2, 1), torch.tensor([[[0, 1, 2, 3, 4]], [[20, 21, 25, 3, 9]]])),
    ],
)
def test_multihead_self_attention_with_rope(leading: tuple[int, ...], positions: Tensor | None):
    w = [normal(8, 8, seed=n).requires_grad_() for n in range(4)]
    x = normal(*leading, 5, 8, seed=5).requires_grad_()
    y = run_multihead_self_attention_with_rope(8, 2, 32, THETA, *w, in_features=x, token_positions=positions)
    expected = attended(x, 2, w, torch.arange(5) if positions is None else positions)
    closely(y, expected, atol=2e-5)
    assert_same_gradients(y, expected, [*w, x], partial(closely, atol=1e-4))


@pytest.mark.parametrize(
    ("leading", "positions"),
    [((), torch.tensor([9, 0, 3])), ((2,), torch.tensor([0, 1, 2])), ((2,), torch.tensor([[9, 0, 3], [0, 1, 2]]))],
)
def test_rope(leading: tuple[int, ...], positions: Tensor):
    x = normal(*leading, 3, 6)
    closely(run_rope(6, THETA, 10, x, positions), turned(x, positions, THETA))


# Models.


def test_transformer_block():
    w = {name: weight.requires_grad_() for name, weight in block_weights(8, 12).items()}
    x = normal(2, 5, 8, seed=20).requires_grad_()
    y, expected = run_transformer_block(8, 2, 12, 16, THETA, w, x), block(x, 2, w)
    closely(y, expected)
    assert_same_gradients(y, expected, [*w.values(), x], partial(closely, atol=1e-5))


@pytest.mark.parametrize("num_tokens", [16, 5])
def test_transformer_lm(num_tokens: int):
    layers = [block_weights(8, 12, seed=seed) for seed in (0, 50, 100)]
    w = {
        "token_embeddings.weight": normal(11, 8, seed=200),
        **{f"layers.{n}.{name}": weight for n, layer in enumerate(layers) for name, weight in layer.items()},
        "ln_final.weight": normal(8, seed=201),
        "lm_head.weight": normal(11, 8, seed=202),
    }
    tokens = torch.randint(11, (2, num_tokens), generator=torch.Generator().manual_seed(0))
    x = w["token_embeddings.weight"][tokens]
    for layer in layers:
        x = block(x, 2, layer)
    expected = rms(x, w["ln_final.weight"]) @ w["lm_head.weight"].T
    closely(run_transformer_lm(11, 16, 8, 3, 2, 12, THETA, w, tokens), expected, atol=1e-5)


# Training.


def test_get_batch():
    dataset = np.arange(1000, 1100, dtype=np.uint16)
    torch.manual_seed(0)
    starts: Counter[int] = Counter()
    for _ in range(1000):
        x, y = run_get_batch(dataset, 32, 7, "cpu")
        assert x.shape == y.shape == (32, 7)
        assert x.dtype == y.dtype == torch.int64
        assert torch.equal(x[:, 1:] - x[:, :-1], torch.ones(32, 6, dtype=torch.int64))
        assert torch.equal(y, x + 1)
        starts.update(x[:, 0].tolist())
    assert set(starts) == set(range(1000, 1093))
    expected = 32_000 / 93
    assert max(abs(count - expected) for count in starts.values()) < 5 * math.sqrt(expected)


def test_get_batch_uses_the_device():
    x, y = run_get_batch(np.arange(100), 2, 7, "meta")
    assert x.is_meta
    assert y.is_meta


@pytest.mark.parametrize("max_norm", [0.01, 1.0, 1e6])
def test_gradient_clipping(max_norm: float):
    shapes = [(5,), (2, 3), (1,)]
    parameters = [nn.Parameter(normal(*shape)) for shape in shapes]
    frozen = nn.Parameter(normal(2), requires_grad=False)
    for seed, parameter in enumerate(parameters):
        parameter.grad = 10 * normal(*parameter.shape, seed=seed)
    before = np.concatenate([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
    run_gradient_clipping([*parameters, frozen], max_norm)
    after = np.concatenate([parameter.grad.flatten() for parameter in parameters if parameter.grad is not None])
    factor = min(1.0, max_norm / (np.linalg.norm(before) + 1e-6))
    np.testing.assert_allclose(after, factor * before, rtol=1e-14)


def test_adamw():
    """One weight over ten steps, in plain numbers."""
    weight = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    lr, (beta1, beta2), eps, weight_decay = 0.05, (0.9, 0.98), 1e-8, 0.1
    optimizer = get_adamw_cls()([weight], lr=lr, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay)  # type: ignore[call-arg]
    value, m, v = 2.0, 0.0, 0.0
    for step in range(1, 11):
        optimizer.zero_grad()
        (weight**3).sum().backward()
        optimizer.step()
        m = beta1 * m + (1 - beta1) * 3 * value**2
        v = beta2 * v + (1 - beta2) * 9 * value**4
        value -= lr * (m / (1 - beta1**step) / (math.sqrt(v / (1 - beta2**step)) + eps) + weight_decay * value)
    assert weight.item() == pytest.approx(value, abs=1e-13)


def test_lr_cosine_schedule():
    def rate(it: int) -> float:
        return run_get_lr_cosine_schedule(it, 1.0, 0.1, 7, 21)

    assert [rate(it) for it in range(8)] == pytest.approx([n / 7 for n in range(8)], abs=1e-15)
    for it in range(7, 22):
        assert rate(it) == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * (it - 7) / 14)), abs=1e-14)
    assert rate(14) == pytest.approx(0.55)
    assert rate(21) == rate(22) == rate(1000) == pytest.approx(0.1)


# Checkpoints.


def network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int) -> None:
    for step in range(num_steps):
        optimizer.zero_grad()
        model(normal(6, 4, seed=step).float()).square().mean().backward()
        optimizer.step()


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "adamw": lambda model: get_adamw_cls()(model.parameters(), lr=0.01, betas=(0.8, 0.9)),  # type: ignore[call-arg]
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
    "momentum": lambda model: torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9),
    "groups": lambda model: torch.optim.AdamW(
        [{"params": [p], "lr": 0.001 * n} for n, p in enumerate(model.parameters())]
    ),
}


def assert_equal_state(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, Tensor):
        assert torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_equal_state(found[key], value)
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_equal_state(one, other)
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "memory") for name in OPTIMIZERS), *(("adamw", kind) for kind in ("path", "text path", "open file"))],
)
def test_a_checkpoint_carries_on_as_if_never_stopped(tmp_path: Path, name: str, kind: str):
    model = network(0)
    optimizer = OPTIMIZERS[name](model)
    take_steps(model, optimizer, 5)
    optimizer.param_groups[0]["lr"] = 0.005

    memory, path = io.BytesIO(), tmp_path / "checkpoint.bin"
    if kind == "open file":
        with path.open("wb") as file:
            run_save_checkpoint(model, optimizer, 5, file)
            assert not file.closed
    else:
        run_save_checkpoint(model, optimizer, 5, {"path": path, "text path": str(path), "memory": memory}[kind])

    other = network(1)
    other_optimizer = OPTIMIZERS[name](other)
    take_steps(other, other_optimizer, 2)  # what was there before must go
    if kind == "open file":
        with path.open("rb") as file:
            iteration = run_load_checkpoint(file, other, other_optimizer)
    else:
        memory.seek(0)
        source = {"path": path, "text path": str(path), "memory": memory}[kind]
        iteration = run_load_checkpoint(source, other, other_optimizer)

    assert iteration == 5
    assert_equal_state(dict(other.state_dict()), dict(model.state_dict()))
    assert_equal_state(other_optimizer.state_dict(), optimizer.state_dict())
    take_steps(model, optimizer, 3)
    take_steps(other, other_optimizer, 3)
    assert_equal_state(dict(other.state_dict()), dict(model.state_dict()))


def test_a_checkpoint_before_the_first_step_clears_the_optimizer():
    model, memory = network(0), io.BytesIO()
    run_save_checkpoint(model, OPTIMIZERS["adamw"](model), 0, memory)
    memory.seek(0)
    stepped = OPTIMIZERS["adamw"](model)
    take_steps(model, stepped, 2)
    assert run_load_checkpoint(memory, model, stepped) == 0
    assert stepped.state_dict()["state"] == {}


# Tokens.

TEXT = "low low low low low lower lower widest widest widest newest newest newest newest newest newest"


def naive_merges(words: list[list[bytes]], num_merges: int) -> list[tuple[bytes, bytes]]:
    """Count every pair again before each merge; the greatest of equally frequent ones is merged."""
    merges = []
    for _ in range(num_merges):
        counts = Counter(pair for word in words for pair in pairwise(word))
        left, right = max(counts, key=lambda pair: (counts[pair], pair))
        merges.append((left, right))
        for word in words:
            position = 0
            while position < len(word) - 1:
                if word[position] == left and word[position + 1] == right:
                    word[position : position + 2] = [left + right]
                position += 1
    return merges


def test_train_bpe(tmp_path: Path):
    path, special = tmp_path / "corpus.txt", "<|endoftext|>"
    path.write_bytes(f"{TEXT}{special}{TEXT}{special}".encode())
    vocab, merges = run_train_bpe(path, 256 + 1 + 12, [special])
    words = [[bytes([value]) for value in word] for word in (TEXT.replace(" ", "\0 ").encode().split(b"\0"))]
    assert merges == naive_merges(words * 2, 12)
    assert merges[0] == (b"s", b"t")  # "es" and "st" are equally frequent
    assert vocab[0] == special.encode()
    assert set(vocab.values()) == {special.encode(), *(bytes([n]) for n in range(256)), *(a + b for a, b in merges)}
    assert sorted(vocab) == list(range(269))


def test_special_tokens_are_boundaries_of_training(tmp_path: Path):
    path, special = tmp_path / "corpus.txt", "<|endoftext|>"
    path.write_bytes(f"a{special}b{special}".encode() * 50 + b"ab")
    vocab, merges = run_train_bpe(str(path), 300, [special])
    assert merges == [(b"a", b"b")]
    assert not any(b"<|" in token for token in vocab.values() if token != special.encode())


def test_line_ends_reach_training_as_they_are(tmp_path: Path):
    path = tmp_path / "corpus.txt"
    path.write_bytes(b"a\r\n\r\nb" * 20)
    _, merges = run_train_bpe(path, 260, [])
    assert (b"\r", b"\n") in merges


def test_tokenizer(tmp_path: Path):
    path, special = tmp_path / "corpus.txt", ["<|endoftext|>", "<|endoftext|><|endoftext|>"]
    path.write_text(TEXT, encoding="utf-8")
    vocab, merges = run_train_bpe(path, 275, special)
    tokenizer = get_tokenizer(vocab, merges, special)
    for text in ["", "lowest", TEXT, "wîdést 🙃 \n\n low", f"low{special[0]}low", f"{special[1]}low{special[0]}"]:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert b"".join(vocab[token] for token in ids) == text.encode()
    numbers = {token: number for number, token in vocab.items()}
    assert tokenizer.encode(special[1] + special[0]) == [numbers[token.encode()] for token in (special[1], special[0])]
    assert len(tokenizer.encode(TEXT)) < len(TEXT) / 2


def test_tokenizer_without_special_tokens_reads_them_as_text():
    vocab = {number: bytes([number]) for number in range(256)}
    assert get_tokenizer(vocab, [], None).encode("<|x|>") == list(b"<|x|>")


def test_encode_iterable_is_lazy():
    vocab = {number: bytes([number]) for number in range(256)}
    read = []

    def lines():
        for line in ["ab\n", "c\n", "d\n"]:
            read.append(line)
            yield line

    ids = get_tokenizer(vocab, [], None).encode_iterable(lines())
    assert [next(ids), next(ids)] == [97, 98]
    assert read == ["ab\n"]
    assert [*ids] == list(b"\nc\nd\n")
