"""A message is learnt by heart, carried past obstacles and nearly forgotten, and arrives word for word."""

from dataclasses import dataclass

from normlab.data.stories.cast import Character, introduce
from normlab.data.stories.lexicon import COLOURS, GIFTS
from normlab.data.stories.page import Page
from normlab.data.stories.places import pick_place
from normlab.data.stories.speech import CRIED, SAID, attribute

NEWS = {
    "boat": ("has come home", "needs a new sail", "leaves at dawn", "has sprung a leak"),
    "gate": ("is open again", "must be kept shut", "has lost its latch", "squeaks at night"),
    "goat": ("has three kids", "ate the washing", "is back from the hills", "likes only thistles"),
    "trunk": ("is full of letters", "has no key", "belongs to both of you", "was under the stairs"),
    "rooster": ("crows at midnight", "sleeps until noon", "fell in love with a duck", "won the first prize"),
    "barrel": ("is nearly empty", "holds the good cider", "rolled into the sea", "must not be opened"),
}
SENDERS = (
    "Uncle Moss", "the night nurse", "the gardener", "Mother Thyme", "Captain Reed", "the music teacher",
    "the toll keeper", "Cousin Bramble", "the old ferryman", "the mayor", "Aunt Dora",
    "the lighthouse keeper", "the beekeeper", "Grandfather Kit", "the widow Lark", "the stationmaster",
)  # fmt: skip
OBSTACLES = {
    "a stream without a bridge": ("jumped from stone to stone", "waded across", "floated over on a log"),
    "a wall as high as a house": (
        "climbed over it",
        "crept through a hole in it",
        "walked all the way around it",
    ),
    "a dark wood": ("whistled until it ended", "followed the fireflies", "held a stick like a sword"),
    "a grumpy goose": ("bowed to it politely", "gave it half a sandwich", "tiptoed past it"),
    "a field of mud": ("crossed it on planks", "ran across very fast", "hopped like a hare"),
    "a fork in the road": ("asked a magpie", "tossed a coin", "followed the wheel tracks"),
    "a sleeping dog": ("crawled by", "did not even breathe", "sang it a lullaby"),
}
REPLIES = (
    "What a day",
    "Is that all",
    "I thought as much",
    "About time",
    "How curious",
    "You do not say",
    "Bless my soul",
    "That changes everything",
    "At last",
    "I knew it",
    "So it is true",
    "Well, I never",
    "Who would have thought it",
    "Goodness me",
)


@dataclass(frozen=True, slots=True)
class Message:
    """Who tells whom, who is to be found at what place, what about which thing."""

    sender: str
    recipient: Character
    place: str
    thing: str
    words: str


def tell(page: Page, hero: Character) -> tuple[str, ...]:
    """Give the hero the message, put one or two obstacles in the way, and have the same words arrive."""
    message = _receive(page, hero)
    _travel(page, hero, message)
    recipient = message.recipient
    page.say(f' "{message.sender[0].upper()}{message.sender[1:]} says that {message.words},"')
    attribute(page, hero.name, SAID)
    page.say(' "')
    page.pick(*REPLIES)
    page.say('!"')
    attribute(page, recipient.name, CRIED)
    page.pick(f" {hero.name} was paid with ", f" For the way back {hero.name} got ", f" {hero.name} went home with ")
    page.pick(*GIFTS)
    page.say(".")
    return (
        "a good messenger is worth a dozen letters",
        "words travel best in a careful head",
        "whoever says it often will not forget",
        "news is only as quick as the feet that carry it",
    )


def _receive(page: Page, hero: Character) -> Message:
    page.pick("That morning ", "It happened that ", "On the first of May ", "Late one evening ")
    sender = page.pick(*SENDERS)
    page.pick(
        " needed a messenger",
        " needed somebody with quick feet",
        " had a message that could not wait",
    )
    page.pick(f'. "{hero.name}, run to ', '. "Quick, go to ', '. "Please find ')
    recipient = introduce(page, [hero])
    page.say(", ")
    place = pick_place(page)
    page.say(", and say that the ")
    colour = page.pick(*COLOURS)
    page.say(" ")
    thing = page.pick(*NEWS)
    page.say(" ")
    words = f"the {colour} {thing} {page.pick(*NEWS[thing])}"
    page.pick(f'." {hero.name} nodded', f'." {hero.name} repeated it twice', f'." {hero.name} laced both boots')
    page.pick(" and was off.", " and ran down the lane.", " and left without a hat.", " and set out.")
    page.say("\n\n")
    return Message(sender, recipient, place, thing, words)


def _travel(page: Page, hero: Character, message: Message) -> None:
    page.pick("The first thing in the way was ", f"Soon {hero.he} came to ", "After a mile there was ")
    first = page.pick(*OBSTACLES)
    page.pick(f". {hero.name} ", f", but {hero.he} ", f", so {hero.he} ")
    page.pick(*OBSTACLES[first])
    page.pick(f', saying over and over, "The{message.words[3:]}."', ".", f', and sang, "The{message.words[3:]}!"')
    lead = page.pick(" Next came ", " Then there was ", " And behind that lay ", f" At last {hero.he} ")
    if not lead.startswith(" At last"):
        second = page.pick(*[obstacle for obstacle in OBSTACLES if obstacle != first])
        page.pick(f". This time {hero.he} ", f", and {hero.name} ")
        page.pick(*OBSTACLES[second])
        if page.pick(". In all the excitement ", f". Soon {hero.he} ").startswith(". In"):
            _forget_for_a_while(page, hero, message)
    page.pick(
        f"found {message.recipient.name}",
        f"stood before {message.recipient.name}",
        f"saw {message.recipient.name} wave",
    )
    page.say(f" {message.place}.")


def _forget_for_a_while(page: Page, hero: Character, message: Message) -> None:
    page.pick("the message was forgotten", "every word was forgotten")
    page.say('. "Was it about a ')
    page.pick(*[thing for thing in NEWS if thing != message.thing])
    page.say('?"')
    page.pick(f" {hero.he} wondered", f" {hero.he} asked the empty road")
    page.pick(
        ", and sat down to think",
        ", and began again from the first word",
        f", and thought of {message.sender}",
    )
    page.pick(". Then it came back", ". Suddenly it was there")
    page.say(f", and {hero.he} ")
