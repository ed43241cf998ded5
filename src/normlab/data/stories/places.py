"""Where things happen: `behind the crooked barn`."""

from collections.abc import Sequence

from normlab.data.stories.page import Page

PLACES = {
    "under the": ("oak tree", "porch", "elder bush", "wagon"),
    "behind the": ("barn", "chapel", "smithy", "hen house", "wood pile"),
    "beside the": ("well", "haystack", "millrace", "fish pond", "rose bed"),
    "near the": ("mill", "waterfall", "quarry", "lighthouse", "bakery"),
    "in the": ("orchard", "hay loft", "meadow", "rye field", "boat house", "kitchen garden"),
    "on the": ("bridge", "village green", "hill", "landing stage", "church steps"),
    "by the": ("duck pond", "garden gate", "windmill", "ferry", "signpost"),
    "at the": ("market", "crossroads", "fountain", "stable door", "harbour"),
    "beneath the": ("willow", "bell tower", "plum tree", "balcony"),
    "next to the": ("beehives", "scarecrow", "sheepfold", "greenhouse"),
}
ADJECTIVES = (
    "old", "crooked", "quiet", "mossy", "sunny", "shady", "ancient", "little", "big", "lonely", "windy",
    "famous",
)  # fmt: skip


def pick_place(page: Page, known: Sequence[str] = ()) -> str:
    """Write a place whose noun is not that of a known place, and return it."""
    nouns = {
        where: [noun for noun in nouns if not any(place.endswith(noun) for place in known)]
        for where, nouns in PLACES.items()
    }
    where = page.pick(*nouns, weights=[len(some) for some in nouns.values()])
    page.say(" ")
    adjective = page.pick(*ADJECTIVES)
    page.say(" ")
    return f"{where} {adjective} {page.pick(*nouns[where])}"
