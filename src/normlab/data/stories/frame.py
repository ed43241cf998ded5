"""How every story begins and ends, whatever happens in between."""

from collections.abc import Sequence
from dataclasses import dataclass

from normlab.data.stories.cast import Character, introduce
from normlab.data.stories.lexicon import HABITS, HOMES, TRAIT_SIGNS, with_article
from normlab.data.stories.page import Page

NIGHTS = ("slept soundly", "slept with a smile", "lay awake and watched the moon", "dreamed of cake")
MEMORIES = ("tells this story to anyone who asks", "laughs about it still", "remembers it well")
RETURNS = ("as on every other day", "and all was well", "just as before", "a little wiser")


@dataclass(frozen=True, slots=True)
class Hero:
    """The main character with what the opening told and the closing recalls."""

    character: Character
    home: str
    habit: str | None


def open_story(page: Page) -> Hero:
    """The first paragraph: who the hero is, where the hero lives, and what the hero likes or is known for."""
    beginning = page.pick(
        "Once upon a time there was ",
        "Long ago there lived ",
        "There was once ",
        "This is the story of ",
        "Not so long ago there lived ",
        "Far away there lived ",
    )
    hero = introduce(page)
    page.say(" " if beginning.endswith("lived ") else " who lived ")
    home = page.pick(*HOMES)
    habit = _pick_habit_or_sign(page, hero)
    page.say(".\n\n")
    return Hero(hero, home, habit)


def _pick_habit_or_sign(page: Page, hero: Character) -> str | None:
    """Tell what the hero likes to do, and return it; or tell how the hero's trait shows."""
    lead = page.pick(
        f". Most of all {hero.he} liked to ",
        f". On quiet days {hero.he} loved to ",
        f", and in the evening {hero.he} would ",
        f". {hero.He} ",
        f". Everyone knew that {hero.he} ",
    )
    if lead.endswith((" to ", " would ")):
        return page.pick(*HABITS)
    page.pick(*TRAIT_SIGNS[hero.trait])
    return None


def close_story(page: Page, hero: Hero, morals: Sequence[str]) -> None:
    """The last sentence: a moral, or the hero's day ends and the home, the habit or the trait is recalled."""
    who = hero.character
    endings: dict[str, Sequence[str]] = {
        " And so they learned that ": morals,
        " As the old people say, ": morals,
        " Remember: ": morals,
        f"\n\nThat night {who.name} the {who.kind} ": NIGHTS,
        f"\n\nTo this day {who.name}, the {who.trait} {who.kind}, ": MEMORIES,
        f"\n\nSomewhere {hero.home}, {with_article(who.trait)} {who.kind} ": MEMORIES,
    }
    if hero.habit is not None:
        endings[f"\n\nThe next morning {who.name} was ready to {hero.habit} again, "] = RETURNS
        endings[f"\n\nAs for {who.name}, {who.he} went home to {hero.habit}, "] = RETURNS
    page.pick(*endings[page.pick(*endings)])
    page.say(".")
