"""Sampling against brute-force definitions, and the loop that draws one token after another."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from normlab.model.language_model import LanguageModel
from normlab.model.sampling import Sampler, generate, sample_text

exactly = partial(torch.testing.assert_close, rtol=0, atol=1e-12)
BuildModel = Callable[..., LanguageModel]


def sampler(**overrides: Any) -> Sampler:
    return Sampler(**{"temperature": 1.0, "top_k": 0, "top_p": 1.0, "max_tokens": 20, **overrides})


def logits_with(seed: int, vocab_size: int = 12) -> Tensor:
    return 2 * torch.randn(vocab_size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def brute_force(logits: Tensor, temperature: float, top_k: int, top_p: float) -> Tensor:
    """Walk down the ranks, keeping tokens until top_k of them or a mass of top_p are kept; one at the least."""
    sharpened = torch.exp(logits / temperature)
    probabilities = (sharpened / sharpened.sum()).tolist()
    kept: list[int] = []
    for token in sorted(range(len(probabilities)), key=lambda token: -probabilities[token]):
        mass = sum(probabilities[other] for other in kept)
        if kept and ((top_k and len(kept) == top_k) or (top_p < 1 and mass >= top_p)):
            break
        kept.append(token)
    mass = sum(probabilities[token] for token in kept)
    cut = [probability / mass if token in kept else 0.0 for token, probability in enumerate(probabilities)]
    return torch.tensor(cut, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [0, 1, 4, 12, 100])
@pytest.mark.parametrize("top_p", [0.0, 0.1, 0.7, 0.95, 1.0])
def test_probabilities_follow_the_definition(top_p: float, top_k: int, temperature: float, seed: int):
    logits = logits_with(seed)
    found = sampler(temperature=temperature, top_k=top_k, top_p=top_p).probabilities(logits)
    exactly(found, brute_force(logits, temperature, top_k, top_p))


def test_the_nucleus_is_the_smallest_set_that_reaches_the_mass():
    logits = torch.tensor([0.125, 0.5, 0.25, 0.125], dtype=torch.float64).log()
    for top_p, kept in [(0.4, 1), (0.5, 1), (0.51, 2), (0.75, 2), (0.8, 3), (0.9, 4), (1.0, 4)]:
        assert (sampler(top_p=top_p).probabilities(logits) > 0).sum() == kept, top_p


def test_temperature_zero_is_the_limit_of_small_ones():
    logits = logits_with(0)
    greedy = sampler(temperature=0.0).probabilities(logits)
    assert greedy.argmax() == logits.argmax()
    assert greedy.sum() == greedy.max() == 1
    exactly(sampler(temperature=1e-3).probabilities(logits), greedy)


def test_a_high_temperature_forgets_the_logits():
    uniform = torch.full((12,), 1 / 12, dtype=torch.float64)
    exactly(sampler(temperature=1e9).probabilities(logits_with(0)), uniform, atol=1e-8)


def test_limits_that_cut_nothing_keep_the_whole_softmax():
    """Even tokens so rare that the mass before them rounds to 1."""
    logits = torch.tensor([0.0, -30.0, -60.0, -90.0], dtype=torch.float64)
    exactly(sampler().probabilities(logits) / logits.softmax(-1), torch.ones(4, dtype=torch.float64))


class Constant(torch.nn.Module):
    """The same logits whatever the tokens."""

    def __init__(self, logits: Tensor, context_length: int = 4):
        super().__init__()
        self.logits, self.context_length = logits, context_length
        self.token_embedding = torch.nn.Embedding(len(logits), 1)
        self.seen: list[list[int]] = []

    def forward(self, tokens: Tensor) -> Tensor:
        self.seen.append(tokens[0].tolist())
        return self.logits.expand(*tokens.shape, -1)


def drawn(model: Any, choice: Sampler, *, seed: int = 0, stop: int = -1, prompt: Iterable[int] = (0,)) -> list[int]:
    return list(generate(model, list(prompt), choice, torch.Generator().manual_seed(seed), stop))


def test_frequencies_are_the_probabilities():
    logits, num_draws = logits_with(3, 8), 4000
    choice = sampler(temperature=1.5, top_k=6, top_p=0.97, max_tokens=num_draws)
    expected = num_draws * brute_force(logits, 1.5, 6, 0.97)
    counts = torch.bincount(torch.tensor(drawn(Constant(logits), choice)), minlength=8)
    possible = expected > 0
    assert 3 <= possible.sum() <= 6
    assert (counts[~possible] == 0).all()
    chi_square = ((counts - expected).square() / expected)[possible].sum()
    assert chi_square < 20.5  # the 0.1 % level at five degrees of freedom


def test_the_model_sees_its_last_tokens_and_no_more_than_the_context():
    model = Constant(torch.tensor([0.0, 0.0, 9.0]), context_length=3)
    assert drawn(model, sampler(temperature=0.0, max_tokens=3), prompt=[0, 1]) == [2, 2, 2]
    assert model.seen == [[0, 1], [0, 1, 2], [1, 2, 2]]


def test_greedy_text_follows_the_likeliest_token(build_model: BuildModel):
    model = build_model(context_length=40)
    tokens = [1, 2, 3]
    for token in drawn(model, sampler(temperature=0.0), prompt=tokens):
        assert token == model(torch.tensor([tokens]))[0, -1].argmax()
        tokens = [*tokens, token]
    assert len(tokens) == 23


def test_the_stop_token_ends_the_text_and_is_not_part_of_it(build_model: BuildModel):
    model = build_model()
    free = drawn(model, sampler(max_tokens=60))
    assert len(free) == 60
    stop = free[30]
    assert drawn(model, sampler(max_tokens=60), stop=stop) == free[: free.index(stop)]


def test_a_seed_gives_the_same_text(build_model: BuildModel):
    model = build_model()
    first, same, other = (drawn(model, sampler(), seed=seed) for seed in (0, 0, 1))
    assert first == same != other


def test_an_empty_prompt_is_refused(build_model: BuildModel):
    with pytest.raises(ValueError, match="at least one token"):
        drawn(build_model(), sampler(), prompt=[])


@pytest.mark.parametrize("poison", [torch.nan, torch.inf])
def test_logits_that_are_not_finite_are_refused(poison: float):
    with pytest.raises(FloatingPointError, match="not finite"):
        drawn(Constant(torch.tensor([0.0, poison])), sampler(temperature=0.0))


class Letters:
    """a, b, c, ... are 1, 2, 3, ...; 0 ends a text."""

    end_of_text = 0

    def encode_ordinary(self, text: str) -> list[int]:
        return [ord(letter) - 96 for letter in text]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(chr(96 + token) for token in ids)


def test_a_text_begins_with_the_end_of_the_one_before():
    model = Constant(torch.tensor([0.0, 0.0, 0.0, 9.0]), context_length=9)
    text = sample_text(model, Letters(), "ab", sampler(temperature=0.0, max_tokens=2), torch.Generator())  # type: ignore[arg-type]
    assert text == "abcc"
    assert model.seen[0] == [0, 1, 2]


def test_a_text_ends_at_the_end_of_text():
    model = Constant(torch.tensor([9.0, 0.0, 0.0]), context_length=9)
    assert sample_text(model, Letters(), "ab", sampler(temperature=0.0), torch.Generator()) == "ab"  # type: ignore[arg-type]
