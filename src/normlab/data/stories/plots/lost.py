"""Something dear is lost on a walk to three places; it lies in one of them and is found again."""

from normlab.data.stories.cast import Character, introduce
from normlab.data.stories.lexicon import COLOURS, GIFTS
from normlab.data.stories.page import Page
from normlab.data.stories.places import pick_place
from normlab.data.stories.plots.time_of_day import pick_time_of_day
from normlab.data.stories.speech import SAID, SIGHED, attribute

TREASURES = (
    "comb", "thimble", "compass", "mirror", "top", "doll", "teapot", "flute", "feather", "watch", "bracelet",
    "shell", "locket", "pencil", "slingshot", "brush", "scarf", "button", "whistle", "marble", "ribbon",
    "kite", "ball", "mitten", "spoon", "bell", "lantern", "cap", "key", "drum", "boat", "book",
)  # fmt: skip
PASTIMES = (
    "threw pebbles", "picked cherries", "looked at the clouds", "rested both legs", "blew dandelions",
    "played leapfrog", "practised whistling", "drank cold water", "wrote a poem", "hunted for beetles",
    "followed a bee", "counted geese", "picked daisies", "chased a butterfly", "ate a pear", "took a nap",
    "sang to the swallows", "fed the sparrows", "watched a snail", "dug a small hole", "danced in circles",
    "read a letter", "gathered twigs", "talked to a cricket",
)  # fmt: skip
DECOYS = (
    "a bent fork", "an empty nest", "a blue eggshell", "a horseshoe", "two acorns", "a cold puddle",
    "an angry wasp", "a torn kite", "the lid of a pot", "an old boot", "a sleepy toad", "three wet leaves",
    "a broken plate", "a nest of beetles", "someone's walking stick", "a rusty nail", "a snoring cat",
    "a heap of feathers",
)  # fmt: skip
GIVERS = (
    "a great-aunt", "the night watchman", "a retired clown", "a cousin", "the old queen", "a famous cook",
    "a neighbour", "an aunt", "an old sailor", "a pedlar", "the miller", "a kind stranger",
    "somebody's uncle", "a travelling singer",
)  # fmt: skip
HIDING = (
    "covered in dew", "between two stones", "warm from the sun", "wrapped in cobwebs", "as good as new",
    "next to a sleeping mouse", "under a single leaf", "none the worse for it", "half hidden by a leaf",
    "safe and dry", "a little dusty but whole", "shining in the light", "guarded by a snail",
    "just where it had dropped", "with a ladybird sitting on it",
)  # fmt: skip


def tell(page: Page, hero: Character) -> tuple[str, ...]:
    """Name the treasure and three places; lose it, search the places in a new order, and find it."""
    treasure = _name_treasure(page, hero)
    places = _walk_about(page, hero)
    page.pick(
        f" But then the {treasure} was gone.",
        f" At home the {treasure} was not to be found.",
        f" At supper the {treasure} was missing.",
    )
    page.say("\n\n")
    friend = _ask_for_help(page, hero, treasure)
    page.say("\n\n")
    _search(page, treasure, places)
    page.pick(
        f" {hero.name} held it tight",
        f" {hero.name} hugged first {friend.name} and then the {treasure}",
        f" {hero.name} danced around the {treasure}",
    )
    if page.pick(" and laughed out loud.", " and said thank you.", f", and {friend.name} got ").endswith("got "):
        page.pick(*GIFTS)
        page.say(".")
    return (
        "what is lost is often where you last were happy",
        "two pairs of eyes see more than one",
        "whoever remembers the way finds the way back",
        "a friend who helps you look is the real treasure",
    )


def _name_treasure(page: Page, hero: Character) -> str:
    page.pick(
        f"The thing {hero.he} loved best was a small ",
        f"{hero.name}'s greatest treasure was a little ",
        f"{hero.name} never went out without a certain ",
        f"In {hero.his} pocket {hero.he} always carried a tiny ",
    )
    colour = page.pick(*COLOURS)
    page.say(" ")
    treasure = f"{colour} {page.pick(*TREASURES)}"
    page.say(", which ")
    page.pick(*GIVERS)
    page.pick(f" had given {hero.him}. ", f" had made for {hero.him}. ")
    return treasure


def _walk_about(page: Page, hero: Character) -> list[str]:
    pick_time_of_day(page)
    page.pick(f"{hero.he} ", f"{hero.name} ")
    places: list[str] = []
    pastimes: list[str] = []
    for separator in (" ", ", then ", ", and at last "):
        page.say(separator.removeprefix(" ") if not places else separator)
        pastimes.append(page.pick(*[pastime for pastime in PASTIMES if pastime not in pastimes]))
        page.say(" ")
        places.append(pick_place(page, places))
    page.say(".")
    return places


def _ask_for_help(page: Page, hero: Character, treasure: str) -> Character:
    page.pick("Just then there came by ", "Next door there lived ", "Help came from ", "Over the fence looked ")
    friend = introduce(page, [hero])
    page.pick(f'. "My {treasure} is lost!"', f'. "I have lost my {treasure},"', f'. "I cannot find my {treasure},"')
    attribute(page, hero.name, SIGHED)
    page.say(" ")
    page.pick('"Dry your eyes,"', '"We will look together,"', '"Nothing is ever quite gone,"', '"Leave it to me,"')
    attribute(page, friend.name, SAID)
    return friend


def _search(page: Page, treasure: str, places: list[str]) -> None:
    """Visit the places in any order; the treasure lies in the first, the second or else the last of them."""
    remaining = list(places)
    page.say("First they looked ")
    while len(remaining) > 1:
        place = page.pick(*remaining)
        remaining.remove(place)
        if page.pick(", but they found only ", ", and there ", weights=(2, 3)) == ", and there ":
            break
        page.pick(*DECOYS)
        page.pick(". Next they tried ", ". After that they searched ")
    else:
        page.say(f"{remaining[0]}, and there ")
    page.pick(f"it was: the {treasure}, ", f"lay the {treasure}, ", f"they saw the {treasure}, ")
    page.pick(*HIDING)
    page.pick("!", ".")
