"""Choice oracles: a probabilistic program asks for every random decision, the oracle answers.

A program is a function of one argument, `choose`.  It calls `choose(options, weights)` and otherwise
computes deterministically, so its outcome is a function of the answers, and the probability of a sequence
of answers is the product over the calls of weight / sum of weights.  Weights are integers: their sums are
exact and the same in every Python version.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Protocol, TypeVar

Option = TypeVar("Option")
Outcome = TypeVar("Outcome")


class Choices(Protocol):
    """Answers `choose(options, weights)` with one of the options; without weights all are equally likely."""

    def __call__(self, options: Sequence[Option], weights: Sequence[int] | None = None) -> Option:
        """One of `options`, which are at least one; `weights` are positive and as many as the options."""
        ...


class SampledChoices:
    """Draws each option with its probability p and adds -log p to `nats`, the surprisal so far.

    Only `generator.random()` is used, whose values Python promises to keep for a given seed.
    """

    def __init__(self, generator: random.Random) -> None:
        """Draw from `generator`, which nobody else should use meanwhile."""
        self.nats = 0.0
        self._random = generator.random

    def __call__(self, options: Sequence[Option], weights: Sequence[int] | None = None) -> Option:
        """Draw one option and count its surprisal."""
        if weights is None:
            self.nats += math.log(len(options))
            return options[int(self._random() * len(options))]
        total = sum(weights)
        remaining = int(self._random() * total)
        for option, weight in zip(options, weights, strict=True):
            if remaining < weight:
                self.nats -= math.log(weight / total)
                return option
            remaining -= weight
        raise AssertionError("random() is below 1, so the loop above returns")


class _ScriptedChoices:
    """Answers from a list of indices, then with the first option; remembers what could have been answered."""

    def __init__(self, script: Sequence[int]) -> None:
        self.script = list(script)
        self.num_options: list[int] = []
        self.probability = Fraction(1)

    def __call__(self, options: Sequence[Option], weights: Sequence[int] | None = None) -> Option:
        call = len(self.num_options)
        if call == len(self.script):
            self.script.append(0)
        index = self.script[call]
        self.num_options.append(len(options))
        self.probability *= Fraction(1, len(options)) if weights is None else Fraction(weights[index], sum(weights))
        return options[index]


def enumerate_outcomes(program: Callable[[Choices], Outcome]) -> Iterator[tuple[Outcome, Fraction]]:
    """Run `program` over every sequence of answers: (outcome, exact probability of that sequence), depth
    first.

    An outcome that several sequences reach is yielded once for each.  The probabilities sum to exactly 1.
    The program must stop on every sequence, and its number of sequences is the caller's concern.
    """
    script: list[int] = []
    while True:
        choose = _ScriptedChoices(script)
        outcome = program(choose)
        yield outcome, choose.probability
        script = choose.script
        while script and script[-1] + 1 == choose.num_options[len(script) - 1]:
            script.pop()
        if not script:
            return
        script[-1] += 1
