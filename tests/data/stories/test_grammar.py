"""The derivation is unambiguous: shown choice by choice, by enumeration, and by reading stories back."""

import random
from collections.abc import Callable, Sequence
from importlib import import_module
from itertools import pairwise
from pkgutil import iter_modules

import pytest

from normlab.data.stories import plots
from normlab.data.stories.cast import Character, introduce
from normlab.data.stories.choices import Choices, SampledChoices, enumerate_outcomes
from normlab.data.stories.frame import Hero, close_story, open_story
from normlab.data.stories.grammar import PLOTS, read_story, tell_story
from normlab.data.stories.page import NotInGrammar, Page, WritingPage

HERO = Character("Wren", "owl", "shy", "she", "her", "her")
FRIEND = Character("Otto", "fox", "brave", "he", "him", "his")
OPENINGS: dict[str, Callable[[Page], object]] = {
    "introduce": lambda page: introduce(page, [HERO, FRIEND]),
    "open_story": open_story,
}
SCENES = OPENINGS | {
    tell.__module__.rpartition(".")[2]: lambda page, tell=tell: tell(page, HERO) for tell in PLOTS.values()
}
MOST_BRANCHING = 8


class Tracing:
    """Samples, refuses phrases of which one begins another, and remembers the answers."""

    def __init__(self, generator: random.Random) -> None:
        self.answers: list[object] = []
        self._sample = SampledChoices(generator)

    def __call__(self, options: Sequence, weights: Sequence[int] | None = None):
        in_order = sorted(options)
        for first, second in pairwise(in_order):
            assert not second.startswith(first), f"{first!r} begins {second!r}"
        assert weights is None or (len(weights) == len(options) and min(weights) > 0)
        answer = self._sample(options, weights)
        self.answers.append(answer)
        return answer


def test_no_phrase_begins_another_where_one_of_them_is_chosen_and_equal_texts_have_equal_traces() -> None:
    traces: dict[str, list[object]] = {}
    for seed in range(3000):
        choose = Tracing(random.Random(seed))
        text = tell_story(choose)
        assert traces.setdefault(text, choose.answers) == choose.answers


def narrowed_scene(name: str, seed: int) -> Callable[[Choices], str]:
    """The scene with two options left at a few random calls and one at the others."""
    branching_fraction = 1.0 if name in OPENINGS else 0.2

    def program(choose: Choices) -> str:
        num_calls = num_branched = 0

        def narrowed(options: Sequence, weights: Sequence[int] | None = None):
            nonlocal num_calls, num_branched
            generator = random.Random(f"{seed}/{num_calls}")
            first = int(generator.random() * len(options))
            second = (first + 1) % len(options)
            num_calls += 1
            if second == first or num_branched == MOST_BRANCHING or generator.random() > branching_fraction:
                return options[first]
            num_branched += 1
            return choose(
                (options[first], options[second]),
                None if weights is None else (weights[first], weights[second]),
            )

        page = WritingPage(narrowed)
        SCENES[name](page)
        return page.text

    return program


@pytest.mark.parametrize("name", SCENES)
def test_enumerated_outcomes_of_a_narrowed_scene_are_distinct(name: str) -> None:
    """A few choices at a time, in full: probabilities sum to 1 and no text is, or begins, another one."""
    for seed in range(8):
        outcomes = list(enumerate_outcomes(narrowed_scene(name, seed)))
        assert len(outcomes) >= 8
        assert sum(p for _, p in outcomes) == 1
        in_order = sorted(text for text, _ in outcomes)
        assert not any(later.startswith(text) for text, later in pairwise(in_order))


@pytest.mark.parametrize("habit", ["hum", None])
def test_all_outcomes_of_the_closing_are_distinct(habit: str | None) -> None:
    def program(choose: Choices) -> str:
        page = WritingPage(choose)
        close_story(page, Hero(HERO, "on a farm", habit), ("one", "two"))
        return page.text

    outcomes = list(enumerate_outcomes(program))
    assert len({text for text, _ in outcomes}) == len(outcomes) > 12
    assert sum(p for _, p in outcomes) == 1


def test_reading_a_story_finds_the_surprisal_it_was_drawn_with() -> None:
    for seed in range(2000):
        choose = SampledChoices(random.Random(seed))
        text = tell_story(choose)
        assert read_story(text).nats == pytest.approx(choose.nats, rel=1e-9)


def test_reading_reports_where_a_text_leaves_the_grammar() -> None:
    text = tell_story(SampledChoices(random.Random(3)))
    broken = f"{text[:200]}#{text[201:]}"
    with pytest.raises(NotInGrammar) as caught:
        read_story(broken)
    assert caught.value.position == 200
    assert "'#" in str(caught.value)


def test_a_story_that_goes_on_or_stops_early_is_not_in_the_grammar() -> None:
    text = tell_story(SampledChoices(random.Random(3)))
    for wrong, position in ((f"{text} And more.", len(text)), (text[:-1], len(text) - 1), ("", 0)):
        with pytest.raises(NotInGrammar) as caught:
            read_story(wrong)
        assert caught.value.position == position


def test_every_plot_of_the_folder_is_told() -> None:
    texts = [tell_story(SampledChoices(random.Random(seed))) for seed in range(300)]
    told = {tell.__module__ for words, tell in PLOTS.items() if any(words in text for text in texts)}
    modules = (import_module(f"{plots.__name__}.{found.name}") for found in iter_modules(plots.__path__))
    assert told == {module.__name__ for module in modules if hasattr(module, "tell")}
