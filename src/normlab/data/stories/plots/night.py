"""A strange noise at night frightens the hero until its true and harmless cause is found."""

from normlab.data.stories.cast import Character, introduce, pick_with_article
from normlab.data.stories.lexicon import COLOURS, DRINKS
from normlab.data.stories.page import Page
from normlab.data.stories.speech import SAID, attribute

NOISES = {
    "tapping": ("a branch against the glass", "a woodpecker that could not sleep", "rain in a tin bucket"),
    "scratching": ("a kitten at the back door", "a mouse in the bread bin", "a rose bush on the wall"),
    "humming": (
        "the bees in the old wall",
        "the kettle, left on the stove",
        "somebody singing in the kitchen",
    ),
    "rattling": ("the loose shutter", "the lid of the pot", "marbles rolling in a drawer"),
    "sighing": ("the wind in the chimney", "the old dog in its dream", "the bellows by the hearth"),
    "creaking": ("the weather vane on the roof", "the rocking chair", "the gate that nobody had shut"),
}
FEARS = (
    "a bandit", "a vampire", "a goblin", "a crocodile", "a tiger", "a robber chief", "a snake",
    "a headless horseman", "a dragon", "a burglar", "a ghost in chains", "a giant", "a sea monster",
    "a troll", "a wolf", "a pirate", "a witch",
)  # fmt: skip
SEARCHED = (
    "under the table", "behind the stove", "in the bathtub", "in the wood box", "above the cupboard",
    "beside the clock", "in the linen chest", "under the bed", "in the wardrobe", "behind the curtain",
    "in the cellar", "up in the attic", "on the stairs", "in the pantry",
)  # fmt: skip
FOUND_THERE = (
    "a lost button", "three wax ends", "a jar of pickles", "someone's slippers", "a moth",
    "a pile of letters", "an empty jug", "only dust", "one grey sock", "a spider at work", "nothing at all",
    "a forgotten apple", "last year's calendar", "a very old hat",
)  # fmt: skip

MOST_PLACES = 2


def tell(page: Page, hero: Character) -> tuple[str, ...]:
    """Hear a noise, name a fear, search, find the cause that fits the noise, and laugh about it."""
    page.pick(f"{hero.name} woke up", f"{hero.name} could not fall asleep", f"{hero.He} sat up in bed")
    page.pick(". Somewhere there was a ", ". Out of the dark came a ", f". {hero.He} had heard a ")
    page.pick("soft ", "strange ", "slow ", "low ")
    noise = page.pick(*NOISES)
    page.pick(", again and again.", ", first here, then there.", ", now loud, now quiet.")
    page.pick(' "It must be ', ' "What if it is ', ' "I am sure that is ')
    fear = page.pick(*FEARS)
    page.pick(f'," {hero.he} thought', f'," {hero.he} whispered')
    page.say(".\n\n")
    companion = _wake_companion(page, hero, noise, fear)
    _search(page, fear)
    _find(page, hero, companion, noise, fear)
    return (
        "the dark is only the day with its eyes shut",
        "fear is small once you look at it",
        "a noise is never as big as the guess",
        "two are braver than one",
    )


def _wake_companion(page: Page, hero: Character, noise: str, fear: str) -> Character:
    page.pick("In the next room slept ", "Staying for the night was ", "Luckily the house had a guest, ")
    companion = introduce(page, [hero])
    page.pick('. "Wake up,"', '. "Listen,"', f'. "I hear {fear},"', f'. "There is {fear} in the house,"')
    attribute(page, hero.name, SAID)
    page.pick(f" {companion.name} yawned", f" {companion.name} sat up", f" {companion.name} listened")
    page.pick(" and lit ", " and took ", " and reached for ")
    colour = pick_with_article(page, COLOURS)
    light = page.pick(" lamp", " lantern", " candle")
    page.pick('. "Let us look,"', '. "Then we must go and see,"', f'. "I have never met {fear},"')
    attribute(page, companion.name, SAID)
    page.say(f" They followed the light of the {colour}{light}.\n\n")
    return companion


def _search(page: Page, fear: str) -> None:
    """Look in one or two places, each of which holds something else and no monster."""
    searched: list[str] = []
    found: list[str] = []
    page.say("They looked ")
    while True:
        searched.append(page.pick(*[place for place in SEARCHED if place not in searched]))
        page.pick(" and saw ", ", where there was ", " and found ")
        found.append(page.pick(*[thing for thing in FOUND_THERE if thing not in found]))
        if len(searched) == MOST_PLACES:
            page.say(f", and still not {fear}. ")
            return
        if page.pick(". Then they looked ", f", but not {fear}. ", weights=(1, 2)) != ". Then they looked ":
            return


def _find(page: Page, hero: Character, companion: Character, noise: str, fear: str) -> None:
    page.pick(f"The {noise} grew louder", f"On and on went the {noise}", f"Still they heard the {noise}")
    page.pick(", until ", ". Then ")
    page.pick(f"{companion.name} pointed. ", f"{hero.name} stopped. ", f"{hero.name} opened one more door. ")
    page.pick("It was nothing but ", "There it was: ", "And what did they see? It was ")
    page.pick(*NOISES[noise])
    page.say('! "')
    page.pick(f"So much for {fear}", f"What a small kind of {fear.partition(' ')[2]}", f"And I took it for {fear}")
    page.say(',"')
    attribute(page, hero.name, SAID)
    page.pick(" They calmed down over ", f" {companion.name} warmed up ", " Then they had ")
    page.pick(*DRINKS)
    page.say(".")
