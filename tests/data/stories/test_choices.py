"""The oracles against distributions whose probabilities and entropies are known by hand."""

import math
import random
from fractions import Fraction

import pytest

from normlab.data.stories.choices import Choices, SampledChoices, enumerate_outcomes


def biased_coins(choose: Choices) -> str:
    """Toss a 3:1 coin until it shows tails, three times at most."""
    tosses = ""
    while len(tosses) < 3 and not tosses.endswith("t"):
        tosses += choose("ht", (3, 1))
    return tosses


def small_grammar(choose: Choices) -> str:
    subject = choose(("the cat", "the dogs"), (2, 1))
    verb = "sees" if subject == "the cat" else "see"
    if choose((True, False)):
        return f"{subject} {verb} {choose(('a bird', 'a tree', 'nothing'))}"
    return f"{subject} {verb}"


def exact_entropy(program) -> float:
    return -sum(float(p) * math.log(p) for _, p in enumerate_outcomes(program))


def test_enumeration_gives_every_outcome_with_its_exact_probability() -> None:
    assert dict(enumerate_outcomes(biased_coins)) == {
        "hhh": Fraction(27, 64),
        "hht": Fraction(9, 64),
        "ht": Fraction(3, 16),
        "t": Fraction(1, 4),
    }


def test_a_program_without_choices_has_one_certain_outcome() -> None:
    assert list(enumerate_outcomes(lambda choose: "so be it")) == [("so be it", 1)]


@pytest.mark.parametrize("program", [biased_coins, small_grammar])
def test_enumerated_probabilities_sum_to_one(program) -> None:
    assert sum(p for _, p in enumerate_outcomes(program)) == 1


def test_enumerated_entropy_of_the_coins_is_the_one_worked_out_by_hand() -> None:
    one_toss = math.log(4) - 0.75 * math.log(3)
    assert exact_entropy(biased_coins) == pytest.approx(one_toss * (1 + 3 / 4 + 9 / 16), rel=1e-12)


@pytest.mark.parametrize("program", [biased_coins, small_grammar])
def test_sampled_surprisal_is_that_of_the_outcome(program) -> None:
    probabilities = dict(enumerate_outcomes(program))
    for seed in range(200):
        choose = SampledChoices(random.Random(seed))
        outcome = program(choose)
        assert choose.nats == pytest.approx(-math.log(probabilities[outcome]), rel=1e-12)


@pytest.mark.parametrize("program", [biased_coins, small_grammar])
def test_mean_sampled_surprisal_agrees_with_the_exact_entropy(program) -> None:
    """Within four standard errors, which are themselves computed from the exact distribution."""
    entropy = exact_entropy(program)
    variance = sum(float(p) * (math.log(p) + entropy) ** 2 for _, p in enumerate_outcomes(program))
    generator, num_samples, total = random.Random(7), 20_000, 0.0
    for _ in range(num_samples):
        choose = SampledChoices(generator)
        program(choose)
        total += choose.nats
    assert abs(total / num_samples - entropy) < 4 * math.sqrt(variance / num_samples)


@pytest.mark.parametrize("program", [biased_coins, small_grammar])
def test_sampled_frequencies_agree_with_the_exact_probabilities(program) -> None:
    generator, num_samples = random.Random(11), 20_000
    drawn = [program(SampledChoices(generator)) for _ in range(num_samples)]
    for outcome, probability in enumerate_outcomes(program):
        p = float(probability)
        assert abs(drawn.count(outcome) / num_samples - p) < 4 * math.sqrt(p * (1 - p) / num_samples)
