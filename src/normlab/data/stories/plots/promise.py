"""A promise is given, a temptation comes, and the promise is kept or broken, with what follows."""

from dataclasses import dataclass

from normlab.data.stories.cast import Character, introduce
from normlab.data.stories.lexicon import GIFTS
from normlab.data.stories.page import Page
from normlab.data.stories.speech import CRIED, SAID, SIGHED, attribute

TASKS = (
    "prune the roses", "feed the geese", "shear the sheep", "wax the floor", "pick the cherries",
    "tar the boat", "clear the attic", "bind the sheaves", "dye the wool", "press the cider",
    "whitewash the wall", "chop the kindling", "air the carpets", "build the henhouse", "paint the fence",
    "mend the roof", "carry the firewood", "clean the pond", "water the beans", "wind the big clock",
    "sweep the chimney", "stack the hay", "wash the blankets", "dig the potato bed", "oil the mill wheel",
    "hang the lanterns", "move the piano", "bake the feast bread",
)  # fmt: skip
TEMPTATIONS = {
    "go sailing": "sailing", "go fishing": "fishing", "fly kites": "flying kites",
    "see the puppets": "watching puppets", "ride on the hay cart": "riding on the hay cart",
    "swim in the lake": "swimming", "try the new swing": "swinging",
    "hunt for mushrooms": "hunting for mushrooms", "hear the brass band": "listening to the brass band",
}  # fmt: skip
TIMES = ("at noon", "at sunrise", "after lunch", "when the bell rings", "before supper", "at ten o'clock")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
BEGGING = ('"Please help me to ', '"Come and ', '"You must help me to ')
REFUSING = ' "I cannot come,"'
GIVING_IN = ' "Why not?"'


@dataclass(frozen=True, slots=True)
class Promise:
    """To whom, to do what, on which day and at what time."""

    friend: Character
    task: str
    day: str
    time: str


def tell(page: Page, hero: Character) -> tuple[str, ...]:
    """Make an appointment, tempt the hero on the way, and tell what the hero's decision leads to."""
    promise = _promise(page, hero)
    tempter, temptation = _tempt(page, hero, promise)
    if page.pick(REFUSING, GIVING_IN, weights=(3, 2)) == GIVING_IN:
        page.say(f" said {hero.name}, and off they went.\n\n")
        return _break_promise(page, hero, promise, TEMPTATIONS[temptation])
    attribute(page, hero.name, SAID)
    page.pick(
        f' "I promised to {promise.task}',
        f' "Today I must {promise.task}',
        f' "I said I would {promise.task}',
    )
    page.pick(
        ', and a promise is a promise."\n\n',
        ', and so I will."\n\n',
        f' with {promise.friend.name}."\n\n',
    )
    return _keep_promise(page, hero, promise, tempter, temptation)


def _promise(page: Page, hero: Character) -> Promise:
    page.pick(
        "Down the road lived ",
        f"{hero.name}'s best friend was ",
        "In the same village lived ",
        "Across the stream lived ",
    )
    friend = introduce(page, [hero])
    page.say(". ")
    page.pick(*BEGGING)
    task = page.pick(*TASKS)
    page.say(" on ")
    day = page.pick(*DAYS)
    page.say(" ")
    time = page.pick(*TIMES)
    page.say(',"')
    attribute(page, friend.name, SAID)
    page.pick(' "I promise,"', ' "You have my word,"', ' "I will be there, I promise,"')
    page.pick(f" said {hero.name}", f" answered {hero.name}", f" replied {hero.name}")
    page.pick(", and shook hands on it.", ", and meant it.", ".")
    return Promise(friend, task, day, time)


def _tempt(page: Page, hero: Character, promise: Promise) -> tuple[Character, str]:
    page.pick(
        f"\n\n{promise.day} came",
        f"\n\nOn {promise.day} {hero.he} got up early",
        f"\n\nSoon it was {promise.day}",
    )
    page.pick(". On the road stood ", ". At the crossroads waited ", ". Along came ")
    tempter = introduce(page, [hero, promise.friend])
    page.pick('. "We are off to ', '. "Come along to ', '. "Today is the day to ')
    temptation = page.pick(*TEMPTATIONS)
    page.pick(',"', '! Hurry up,"')
    attribute(page, tempter.name, CRIED)
    return tempter, temptation


def _keep_promise(
    page: Page, hero: Character, promise: Promise, tempter: Character, temptation: str
) -> tuple[str, ...]:
    friend, task = promise.friend, promise.task
    page.pick(f"So {hero.name} and {friend.name} began to {task}", f"So the two friends set out to {task}")
    page.pick(". They worked hard", ". They sang at their work", ". It was hot and heavy work")
    page.pick(" for two hours", " until their arms ached", " without a rest", " until the job was done")
    page.pick(
        f". {friend.name} beamed.",
        f". {friend.name} was full of joy.",
        f'. "You keep your word," said {friend.name}.',
    )
    if page.pick(f" {hero.name} felt ", " And look who came up the path: ").startswith(" And"):
        page.say(f'{tempter.name}. "It is no fun to {temptation} alone,"')
        page.pick(f" {tempter.he} said", f" {tempter.he} grumbled")
        page.pick(
            f", and stayed to {temptation} with them the day after.",
            ", and asked whether there was work left.",
        )
    else:
        page.pick("proud and tired", "as light as a feather", "glad from head to toe", "warm inside")
        if page.pick(".", f", and {friend.name} gave {hero.him} ") != ".":
            page.pick(*GIFTS)
            page.say(".")
    return (
        "a kept promise warms two hearts",
        "a word is as good as the one who gives it",
        "fun can wait, but a friend should not",
    )


def _break_promise(page: Page, hero: Character, promise: Promise, amusement: str) -> tuple[str, ...]:
    friend, task = promise.friend, promise.task
    time = promise.time.replace("rings", "rang")
    page.pick(f"{friend.name} waited {time}", f"{friend.name} stood ready {time}")
    page.pick(
        f", but no {hero.name} came.",
        f" and looked down the road for {hero.name}.",
        f" and called for {hero.name} in vain.",
    )
    page.pick(f" In the end {friend.he} had to {task} alone", f" {friend.He} tried to {task} alone")
    page.pick(
        " and hurt a thumb",
        " and was not done by nightfall",
        " and was too tired to eat",
        " and cried a little",
    )
    page.pick(f". Meanwhile {hero.name} was {amusement}", f". {hero.name}, who was {amusement}, had no idea")
    page.pick(" until a bird sang", " until the light grew dim", " until a cold wind blew")
    page.pick(f". Then {hero.he} remembered", f". Suddenly {hero.he} thought of {friend.name}")
    page.pick(" and blushed.", " and felt a lump in the throat.", " and was ashamed.", " and ran all the way back.")
    page.pick('\n\n"I am so sorry,"', '\n\n"I broke my promise,"', '\n\n"Can you forgive me?"')
    attribute(page, hero.name, SIGHED)
    if page.pick(f" {friend.name} said nothing", f" {friend.name} smiled").endswith("smiled"):
        page.pick(" a small smile", f" and took {hero.him} by the hand", " after a while")
        page.pick('. "Next time I will ask twice,"', '. "It is good that you came to say so,"')
        attribute(page, friend.name, SAID)
    else:
        page.pick(" and shut the door", " and looked away", " for a long time")
        page.pick(f". So the next day {hero.name} came back with ", f". {hero.name} went home and returned with ")
        page.pick(*GIFTS)
        page.pick(f", and {friend.name} opened at last.", f", and in the end {friend.name} had to smile.")
    return (
        "a broken promise takes long to mend",
        "sorry is a small word, but a strong one",
        "those who forget their friends lose more than a day",
    )
