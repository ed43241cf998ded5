"""A counted harvest is given away to those who ask; the number left is always right, down to the last one."""

from dataclasses import dataclass, field

from normlab.data.stories.cast import Character, introduce, pick_with_article
from normlab.data.stories.lexicon import COLOURS, NUMBERS, counted, listed
from normlab.data.stories.page import Page
from normlab.data.stories.places import pick_place
from normlab.data.stories.plots.time_of_day import pick_time_of_day
from normlab.data.stories.speech import SIGHED, attribute

GOODS = {
    "plums": "plum", "pears": "pear", "berries": "berry", "cherries": "cherry", "figs": "fig",
    "walnuts": "walnut", "carrots": "carrot", "buns": "bun", "turnips": "turnip", "apples": "apple",
    "peaches": "peach", "radishes": "radish",
}  # fmt: skip
REASONS = (
    "The mice ate my bread", "I gave my supper to a beggar", "My oven fell in", "I dream of food at night",
    "I am new in these parts", "My stomach growls like a dog", "I dropped my basket in the mud",
    "I am cooking for nine guests", "I have not eaten since yesterday", "My little ones are hungry",
    "I lost my lunch in the river", "It is my birthday", "I am too tired to cook", "My cupboard is bare",
    "I have a long way to walk",
)  # fmt: skip
FEWEST, MOST = 4, 12
MOST_GIVEN = 5
MOST_GUESTS = 3


@dataclass(slots=True)
class Harvest:
    """What was found and how much is left, in what it is carried, and who came and said what."""

    left: int
    plural: str
    singular: str
    basket: str
    guests: list[Character] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    @property
    def remainder(self) -> str:
        """`three plums`, `one plum`."""
        return counted(self.left, self.singular, self.plural)


def tell(page: Page, hero: Character) -> tuple[str, ...]:
    """Find a number of things, meet guests who ask for some, and eat or be given what is left."""
    harvest = _gather(page, hero)
    page.say("\n\nOn the way ")
    _share(page, hero, harvest)
    while harvest.left > 0 and len(harvest.guests) < MOST_GUESTS:
        if page.pick("\n\nThen ", "\n\nNobody else came by", weights=(1, 1)) != "\n\nThen ":
            break
        _share(page, hero, harvest)
    else:
        page.say("\n\nThat was all for one day")
    _end(page, hero, harvest)
    return (
        "what you share comes back in another coat",
        "a little is plenty when the heart is full",
        "an empty basket can be a full day",
        "those who give are never alone at supper",
    )


def _gather(page: Page, hero: Character) -> Harvest:
    pick_time_of_day(page)
    page.pick(f"{hero.he} found ", f"{hero.name} gathered ")
    number = NUMBERS.index(page.pick(*NUMBERS[FEWEST : MOST + 1]))
    page.say(" ")
    plural = page.pick(*GOODS)
    page.say(" ")
    pick_place(page)
    page.pick(f". {hero.name} put them in ", f". {hero.He} laid them in ", f". {hero.He} carried them off in ")
    colour = pick_with_article(page, COLOURS)
    page.say(" ")
    basket = page.pick("basket", "bucket", "apron", "sack", "bowl")
    page.pick(', and said, "', '. "', ' and thought, "')
    page.pick("What a feast this will be", "These are all for me", "Tonight I shall eat like a king")
    page.pick('!"', '."')
    return Harvest(number, plural, GOODS[plural], f"{colour} {basket}")


def _share(page: Page, hero: Character, harvest: Harvest) -> None:
    """A new guest gives a new reason and is given some of what is left."""
    page.pick(f"{hero.he} met ", "there came along ", "there sat by the road ")
    guest = introduce(page, [hero, *harvest.guests])
    harvest.guests.append(guest)
    page.say('. "')
    harvest.reasons.append(page.pick(*[reason for reason in REASONS if reason not in harvest.reasons]))
    page.say(',"')
    attribute(page, guest.name, SIGHED)
    page.say(f" {hero.name} gave {guest.him} ")
    number = NUMBERS.index(page.pick(*NUMBERS[1 : min(harvest.left, MOST_GIVEN) + 1]))
    page.say(f" {harvest.singular if number == 1 else harvest.plural}")
    page.pick(f", and {guest.name} ", f". {guest.name} ")
    page.pick("bowed low", "clapped twice", "said thank you", "began to eat", "whistled with joy")
    harvest.left -= number
    if harvest.left == 0:
        page.pick(f". Now the {harvest.basket} was empty.", f". That left nothing in the {harvest.basket}.")
    else:
        verb = "was" if harvest.left == 1 else "were"
        page.pick(
            f". Now there {verb} {harvest.remainder} in the {harvest.basket}.",
            f". That left {harvest.remainder} in the {harvest.basket}.",
        )


def _end(page: Page, hero: Character, harvest: Harvest) -> None:
    page.pick(f". At home {hero.name}", f", and at sunset {hero.name}")
    names = [guest.name for guest in harvest.guests]
    if harvest.left == 0:
        page.pick(" sat before an empty table", " looked for an old crust", " drank water for supper")
        page.pick(". There was a knock, and in came ", ". But who stood at the door? It was ")
        page.say(listed(names))
        page.pick(" with a pot of stew", " with a big pie", " with bread and cheese", " with mushrooms")
        page.pick(" to share.", ", and they all ate together.", ", and it was a better feast than any.")
    else:
        thing = f"the last {harvest.singular if harvest.left == 1 else harvest.remainder}"
        page.pick(f" ate {thing}", f" cooked {thing}", f" slowly chewed {thing}")
        page.pick(" and thought of ", " and drank to the health of ")
        page.pick(*names)
        page.pick(", and felt full.", ", and it was just enough.", ", and nothing had ever tasted so sweet.")
