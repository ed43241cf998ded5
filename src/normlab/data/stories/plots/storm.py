"""The weather spoils an errand: wet clothes dry by a fire, lost ones are fetched, the errand is done."""

from normlab.data.stories.cast import Character, introduce, pick_with_article
from normlab.data.stories.lexicon import COLOURS, DRINKS
from normlab.data.stories.page import Page
from normlab.data.stories.speech import CRIED, SAID, attribute

GARMENTS = (
    "cloak",
    "sweater",
    "apron",
    "turban",
    "kerchief",
    "tunic",
    "waistcoat",
    "pullover",
    "coat",
    "cape",
    "jacket",
    "shawl",
    "hat",
    "bonnet",
)
ERRANDS = (
    "matches", "pepper", "string", "honey", "vinegar", "writing paper", "nails", "raisins", "buttons",
    "carrots", "tea leaves", "glue", "butter", "flour", "candles", "salt", "lamp oil", "new wool", "cheese",
    "soap", "fresh bread", "sewing thread", "apples", "eggs",
)  # fmt: skip
PASTIMES = (
    "baked waffles", "carved spoons", "played the fiddle", "made paper boats", "sorted buttons",
    "learnt a dance", "traded jokes", "wound wool", "guessed riddles", "fed the fire", "looked at old maps",
    "played cards", "told old stories", "sang rounds", "shelled peas", "drew pictures on the window",
    "listened to the clock", "mended a chair", "counted the thunder", "roasted chestnuts",
)  # fmt: skip


def tell(page: Page, hero: Character) -> tuple[str, ...]:
    """Send the hero out in a coloured garment, let rain, snow or wind come, and let a neighbour help."""
    page.pick("That day ", "Early in the morning ", "On a Tuesday ", "After breakfast ")
    page.pick(f"{hero.his} mother", f"{hero.his} uncle", f"{hero.his} grandfather", "the old cook")
    page.pick(
        f" sent {hero.him} to the shop for ",
        f" asked {hero.him} to fetch ",
        f" needed some help and sent {hero.him} for ",
    )
    errand = page.pick(*ERRANDS)
    page.pick(f". {hero.name} put on ", f". {hero.He} took from its hook ", f". So {hero.he} chose ")
    colour = pick_with_article(page, COLOURS)
    page.say(" ")
    garment = f"{colour} {page.pick(*GARMENTS)}"
    page.pick(" and set off.", " and skipped down the road.", " and went out.", " and hurried away.")
    page.pick(" But halfway there, ", " Soon ", " Before long ")
    weather = page.pick("clouds rolled in and rain", "the sky turned white and snow", "a gust of wind")
    host = _lose_to_the_wind(page, hero, garment) if weather.endswith("wind") else _get_wet(page, hero, garment)
    _finish_errand(page, hero, host, garment, errand)
    return (
        "no weather lasts for ever",
        "a storm shows you where the kind people live",
        "the best roof is a friend's roof",
        "one good turn is worth a dry road",
    )


def _get_wet(page: Page, hero: Character, garment: str) -> Character:
    page.pick(
        " began to fall.",
        " came down in sheets.",
        " hid the road.",
        " fell without a sound.",
    )
    page.pick(f" Soon the {garment} was soaked", f" In no time the {garment} was dripping")
    page.pick(f" and {hero.name} ", f", and poor {hero.name} ", f"; {hero.name} ")
    page.pick("sneezed", "shivered", "could not feel a single toe", "felt very small")
    page.pick(". Luckily a door opened", ". Then a lamp shone in a window", ". At last somebody called out")
    page.say(": it was ")
    host = introduce(page, [hero])
    page.say('. "')
    page.pick(
        "Come in, come in",
        "Quick, come inside",
        "You poor thing, come to the fire",
        "Nobody should be out in this",
    )
    page.say(',"')
    attribute(page, host.name, CRIED)
    page.say(f"\n\n{host.name} ")
    page.pick(f"hung the {garment} by the fire", f"spread the {garment} over a warm stove")
    page.pick(" and made ", " and poured out ", " and brought ")
    page.pick(*DRINKS)
    page.pick(". While they waited, they ", ". For an hour they ", ". Side by side they ")
    page.pick(*PASTIMES)
    page.pick(f". When the {garment} was ", f". As soon as the {garment} was ")
    page.pick("dry", "warm and dry", "no longer wet")
    page.pick(", the sky was clear again.", ", the storm was over.", ", the sun looked out.")
    return host


def _lose_to_the_wind(page: Page, hero: Character, garment: str) -> Character:
    page.pick(" tore", " snatched", " swept")
    page.say(f" away the {garment} and ")
    page.pick("carried it over the roofs", "rolled it down the road", "whirled it high into the air")
    page.pick(
        f". {hero.name} ran after it",
        f". {hero.name} chased it and shouted",
        f". {hero.name} could only stare",
    )
    page.pick(", but it flew on until it hung in ", ", yet it did not stop before it caught in ")
    tree = page.pick("a tall pine", "an old elm", "a pear tree", "a thorn bush", "a holly bush", "a chestnut tree")
    page.pick(". Under it stood ", ". Just there, out for a walk, was ", ". Close by lived ")
    host = introduce(page, [hero])
    tree = "the " + tree.partition(" ")[2]
    page.pick('. "Do not worry,"', '. "Leave it to me,"', '. "I saw it fly,"', '. "What a wind!"')
    attribute(page, host.name, SAID)
    page.say(f"\n\n{host.name} ")
    page.pick(
        "fetched a long ladder",
        "found a pole with a hook",
        "threw a rope over a beam",
        "stood on two barrels",
    )
    page.pick(f", leaned far into {tree}, and ", f", reached up into {tree}, and ")
    page.pick(f"caught the {garment} by its edge", f"pulled the {garment} free", f"shook the {garment} loose")
    page.pick(". Afterwards they shared ", ". Then they warmed up with ", ". They went in for ")
    page.pick(*DRINKS)
    page.pick(" and ", ", and until the wind dropped they ")
    page.pick(*PASTIMES)
    page.say(".")
    return host


def _finish_errand(page: Page, hero: Character, host: Character, garment: str, errand: str) -> None:
    page.pick(f" {hero.name} thanked {host.name}", f" {hero.name} waved goodbye to {host.name}")
    if page.pick(
        f", put on the {garment}, and went to get the {errand}.",
        f", took the {garment}, and forgot all about the {errand}.",
    ).endswith(f"forgot all about the {errand}."):
        page.pick(f' "The {errand}!"', f' "Oh no, the {errand}!"')
        attribute(page, host.name, CRIED)
        page.pick(f" {hero.name} came running back.", f" {hero.name} laughed and turned around.")
