"""A present is made of three things, each of which is earned with a small service."""

from normlab.data.stories.cast import Character, introduce, pick_with_article
from normlab.data.stories.lexicon import COLOURS, listed, with_article
from normlab.data.stories.page import Page
from normlab.data.stories.places import pick_place
from normlab.data.stories.speech import CRIED, SAID, attribute

PARTS = {
    "kite": ("paper", "string", "two thin sticks", "glue", "a tail of rags", "a scrap of silk"),
    "cake": ("flour", "honey", "eggs", "butter", "raisins", "nutmeg"),
    "raft": ("rope", "six logs", "a sail", "pitch", "a long pole", "iron nails"),
    "quilt": ("wool", "thread", "goose down", "a sharp needle", "old curtains", "lace"),
    "lantern": ("a candle", "coloured glass", "copper wire", "a tin can", "a hook", "beeswax"),
    "pie": ("pears", "dough", "cinnamon", "sugar", "cream", "blackberries"),
    "puppet": ("a wooden head", "yarn for hair", "paint", "two glass eyes", "an old glove", "felt"),
}
OCCASIONS = (
    "anniversary",
    "christening",
    "farewell",
    "engagement",
    "birthday",
    "wedding",
    "homecoming",
    "graduation",
    "coronation",
)
OWNERS = (
    "the toymaker", "a fisherman", "the mayor", "a knight", "the cobbler", "a farmer", "the tailor",
    "a sailor", "the innkeeper", "a painter", "the doctor", "a fiddler", "the potter", "the miller",
    "the baker", "a beekeeper", "the blacksmith", "an old widow", "the ferryman", "a weaver", "the postman",
    "a gardener", "the schoolteacher", "a shepherd", "the clockmaker",
)  # fmt: skip
SERVICES = (
    "walking the dog", "chopping wood", "mending a sock", "catching a mouse", "cleaning the windows",
    "carrying a sack", "sorting nails", "shelling beans", "winding the clock", "brushing the horse",
    "peeling potatoes", "polishing spoons", "guarding the door", "sweeping the floor", "singing a song",
    "feeding the hens", "reading a letter aloud", "holding a ladder", "finding a lost slipper",
    "pulling weeds", "telling a joke", "rocking the baby", "washing the cups",
)  # fmt: skip


def tell(page: Page, hero: Character) -> tuple[str, ...]:
    """Choose the present and its three parts, collect them in the order of the list, and give it away."""
    page.pick(
        "It was nearly the ",
        "Soon it would be the ",
        "All were waiting for the ",
        "Everyone spoke about the ",
    )
    occasion = page.pick(*OCCASIONS)
    page.say(" of ")
    friend = introduce(page, [hero])
    page.pick(
        '. "I will make ',
        f'. {hero.name} had no money. "I will make ',
        '. "I know what to do: I will make ',
    )
    colour = pick_with_article(page, COLOURS)
    page.say(" ")
    thing = page.pick(*PARTS)
    page.say(',"')
    attribute(page, hero.name, SAID)
    page.pick(' "For that I need ', ' "All it takes is ')
    parts: list[str] = []
    for separator in ("", ", ", ", and "):
        page.say(separator)
        parts.append(page.pick(*[part for part in PARTS[thing] if part not in parts]))
    page.say('."\n\n')
    _collect(page, hero, parts)
    _make(page, hero, f"{colour} {thing}", parts)
    _give(page, hero, friend, f"{colour} {thing}", occasion)
    return (
        "a gift made by hand is given twice",
        "many small things make one great thing",
        "those who ask kindly seldom go home with nothing",
        "love is the last thing on every list",
    )


def _collect(page: Page, hero: Character, parts: list[str]) -> None:
    """Each part has an owner and a price; sometimes the last one is not to be had until luck helps."""
    owners: list[str] = []
    services: list[str] = []
    for part, beginning in zip(parts, ("First ", " Then ", " Last of all "), strict=True):
        page.say(beginning)
        owners.append(page.pick(*[owner for owner in OWNERS if owner not in owners]))
        page.pick(f" gave {hero.him} ", f" let {hero.him} have ")
        page.say(f"{part} for ")
        services.append(page.pick(*[service for service in SERVICES if service not in services]))
        page.say(".")


def _make(page: Page, hero: Character, thing: str, parts: list[str]) -> None:
    page.pick(f" With {listed(parts)} {hero.he} ", f" Now {hero.name} had {listed(parts)}, and {hero.he} ")
    page.pick("hurried home", "ran home", "went to the barn", "locked the door", "chased away the cat")
    page.pick(" and worked until ", " and was busy until ")
    page.pick("midnight", "the next day", "the candle went out", "it was time", "the birds woke up")
    page.pick(f". There it was: {with_article(thing)}", f". At last the {thing} was done")
    page.say(".\n\n")


def _give(page: Page, hero: Character, friend: Character, thing: str, occasion: str) -> None:
    page.pick(f"When the {occasion} came, ", f"At the {occasion} ")
    page.pick(
        f"{friend.name} untied the string",
        f"{friend.name} lifted the cloth",
        f"{friend.name} opened both eyes wide",
    )
    page.pick(". ", " and gasped. ", " and fell silent. ", " and jumped for joy. ")
    page.pick(f'"{with_article(thing).capitalize()}!"', f'"Is this {thing} for me?"', f'"What a lovely {thing}!"')
    attribute(page, friend.name, CRIED)
    page.pick(" They took it to a quiet spot ", " It was shown to all the neighbours ")
    pick_place(page)
    page.pick(
        f", and {hero.name} was the proudest {hero.kind} of all.",
        f", and {friend.name} would not let go of it.",
        ", and everybody wanted one too.",
        ".",
        weights=(1, 1, 1, 3),
    )
