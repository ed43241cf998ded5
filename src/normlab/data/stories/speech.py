"""Who says it and how: the words that follow a quotation."""

from collections.abc import Sequence

from normlab.data.stories.page import Page

SAID = ("said", "whispered", "murmured", "muttered", "declared", "announced", "mumbled", "remarked")
CRIED = ("cried", "called", "exclaimed", "shouted", "squealed", "laughed", "cheered", "sang out")
SIGHED = ("sighed", "sobbed", "sniffed", "wailed", "groaned", "moaned", "whimpered", "mumbled")
BOASTED = ("bragged", "boasted", "scoffed", "jeered", "crowed", "snorted", "sneered", "laughed")
MANNERS = (
    "twice", "at once", "with a nod", "after a pause", "in a hurry", "firmly", "gravely", "with a cough",
    "with wide eyes", "at last", "as ever", "slowly", "by and by", "in one breath", "quickly",
)  # fmt: skip
MANNER_ENDINGS = (".", *(f" {manner}." for manner in MANNERS))
MANNER_WEIGHTS = (len(MANNERS), *(2 for _ in MANNERS))


def attribute(page: Page, name: str, verbs: Sequence[str]) -> None:
    """Write ` whispered Otto.` or ` whispered Otto with a nod.` after a quotation."""
    page.say(" ")
    page.pick(*verbs)
    page.say(f" {name}")
    page.pick(*MANNER_ENDINGS, weights=MANNER_WEIGHTS)
