"""Text from a model: one token at a time, from a distribution that is sharpened and cut.

Shapes: ``V`` vocabulary, ``T`` time.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from normlab.core.types import Count, CountOrZero, NonNegative
from normlab.core.types import Fraction as FractionOfOne
from normlab.model.language_model import LanguageModel


class TextTokenizer(Protocol):
    """What sampling asks of a tokenizer."""

    @property
    def end_of_text(self) -> int:
        """The id that separates documents."""
        ...

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text without special tokens."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids."""
        ...


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How the next token is chosen. Temperature 0 takes the likeliest; top_k 0 and top_p 1 cut nothing."""

    temperature: NonNegative
    top_k: CountOrZero
    top_p: FractionOfOne
    max_tokens: Count

    def probabilities(self, logits_V: Tensor) -> Tensor:
        """softmax(logits / temperature), cut to the top_k likeliest, then to the nucleus, and renormalised.

        The nucleus is the smallest set of likeliest tokens whose mass reaches top_p (Holtzman et al. 2020, sec. 3.1).
        """
        if self.temperature == 0:
            return torch.nn.functional.one_hot(logits_V.argmax(), logits_V.numel()).to(logits_V.dtype)
        descending_V, order_V = (logits_V / self.temperature).softmax(-1).sort(descending=True)
        mass_before_V = descending_V.cumsum(-1) - descending_V
        kept_V = (mass_before_V < self.top_p) | (self.top_p == 1)  # rounding may take the mass of a long tail to 1
        kept_V[0] = True
        if self.top_k > 0:
            kept_V[self.top_k :] = False
        cut_V = torch.where(kept_V, descending_V, 0.0)
        return torch.zeros_like(cut_V).scatter(0, order_V, cut_V / cut_V.sum())


def sample_text(
    model: LanguageModel, tokenizer: TextTokenizer, prompt: str, sampler: Sampler, generator: torch.Generator
) -> str:
    """The prompt and what the model makes of it, up to the end of the text. The prompt begins a document."""
    prompt_tokens = tokenizer.encode_ordinary(prompt)
    beginning = [tokenizer.end_of_text, *prompt_tokens]
    new_tokens = generate(model, beginning, sampler, generator, stop=tokenizer.end_of_text)
    return tokenizer.decode([*prompt_tokens, *new_tokens])


@torch.no_grad()
def generate(
    model: LanguageModel, prompt: Sequence[int], sampler: Sampler, generator: torch.Generator, stop: int
) -> Iterator[int]:
    """New tokens after the prompt, until ``stop`` (which is not yielded) or ``max_tokens``.

    The model sees the last ``context_length`` tokens. The draw is made on the CPU, so a seed means the same
    everywhere. Raises ValueError where the prompt is empty.
    """
    if not prompt:
        raise ValueError("The prompt must hold at least one token.")
    device = model.token_embedding.weight.device
    tokens = list(prompt)
    for _ in range(sampler.max_tokens):
        window_BT = torch.tensor([tokens[-model.context_length :]], device=device)
        logits_V = model(window_BT)[0, -1].double().cpu()
        if not logits_V.isfinite().all():
            raise FloatingPointError("The model's logits are not finite, so there is no next token to draw.")
        token = int(torch.multinomial(sampler.probabilities(logits_V), 1, generator=generator))
        if token == stop:
            return
        tokens.append(token)
        yield token
