"""The characters: who they are, which pronouns they take, and how a story introduces them."""

from collections.abc import Sequence
from dataclasses import dataclass

from normlab.data.stories.lexicon import (
    ANIMALS,
    CHILDREN,
    HE_NAMES,
    LOOKS,
    SHE_NAMES,
    TRAIT_SIGNS,
    with_article,
)
from normlab.data.stories.page import Page


@dataclass(frozen=True, slots=True)
class Character:
    """One character; the pronouns follow from the name, so they stay the same through the story."""

    name: str
    kind: str
    trait: str
    he: str
    him: str
    his: str

    @property
    def He(self) -> str:
        """The subject pronoun at the start of a sentence."""
        return self.he.capitalize()

    @property
    def His(self) -> str:
        """The possessive pronoun at the start of a sentence."""
        return self.his.capitalize()


def pick_with_article(page: Page, nouns: Sequence[str]) -> str:
    """Write one of the nouns with its article and return the noun alone."""
    return page.pick(*[with_article(noun) for noun in nouns]).partition(" ")[2]


def introduce(page: Page, known: Sequence[Character] = ()) -> Character:
    """Write `a shy little rabbit named Otto`: a new character, of another kind and name than those
    already known.
    """
    trait = pick_with_article(page, [trait for trait in TRAIT_SIGNS if all(trait != one.trait for one in known)])
    page.say(" ")
    page.pick(*LOOKS)
    page.say(" ")
    kind = page.pick(*[kind for kind in CHILDREN + ANIMALS if all(kind != one.kind for one in known)])
    page.pick(" named ", " called ")
    names = {"girl": SHE_NAMES, "boy": HE_NAMES}.get(kind, SHE_NAMES + HE_NAMES)
    name = page.pick(*[name for name in names if all(name != one.name for one in known)])
    he, him, his = ("she", "her", "her") if name in SHE_NAMES else ("he", "him", "his")
    return Character(name, kind, trait, he, him, his)
