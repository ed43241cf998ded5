"""The grammar of the stories: an opening, one of the plots, a closing; and the reader that scores any
text.
"""

from collections.abc import Callable
from dataclasses import dataclass

from normlab.data.stories.cast import Character
from normlab.data.stories.choices import Choices
from normlab.data.stories.frame import close_story, open_story
from normlab.data.stories.page import Page, ReadingPage, WritingPage
from normlab.data.stories.plots import contest, lost, making, message, night, promise, sharing, storm

PLOTS: dict[str, Callable[[Page, Character], tuple[str, ...]]] = {
    "But even treasures get lost. ": lost.tell,
    "One day something was lost. ": lost.tell,
    "Then came bad weather. ": storm.tell,
    "But no summer is without a storm. ": storm.tell,
    "One day a promise was made. ": promise.tell,
    "It all began with a promise. ": promise.tell,
    "Then there was something to share. ": sharing.tell,
    "There was much to share that year. ": sharing.tell,
    "One day a present had to be found. ": making.tell,
    "A good present is hard to find. ": making.tell,
    "One day a message had to be carried. ": message.tell,
    "In those days messages went on foot. ": message.tell,
    "One day there was a race. ": contest.tell,
    "Then came the great race. ": contest.tell,
    "One night something strange was heard. ": night.tell,
    "Not all noises are what they seem. ": night.tell,
}
"""Every plot by the sentences that announce it: the choice of the plot is written, as every choice is."""


@dataclass(frozen=True, slots=True)
class Story:
    """A text and its surprisal -log p(text) under the grammar."""

    text: str
    nats: float


def tell_story(choose: Choices) -> str:
    """The text of one story; every random decision is made by `choose`.

    The derivation is unambiguous: two different sequences of answers never give the same text, and no story
    is the beginning of another (why: page.py).  So the probability of the answers is the probability of the
    text.
    """
    page = WritingPage(choose)
    _narrate(page)
    return page.text


def read_story(text: str) -> Story:
    """The text with its surprisal, found by following it through the grammar.

    Raises NotInGrammar, with the position of the first character that does not fit, where the grammar cannot
    produce the text.
    """
    page = ReadingPage(text)
    _narrate(page)
    page.finish()
    return Story(text, page.nats)


def _narrate(page: Page) -> None:
    hero = open_story(page)
    morals = PLOTS[page.pick(*PLOTS)](page, hero.character)
    close_story(page, hero, morals)
