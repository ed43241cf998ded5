"""A race with a wager: the quicker one dawdles or not, somebody wins, and the loser does what was agreed."""

from normlab.data.stories.cast import Character, introduce, pick_with_article
from normlab.data.stories.lexicon import COLOURS
from normlab.data.stories.page import Page
from normlab.data.stories.places import pick_place
from normlab.data.stories.speech import BOASTED, SAID, attribute

WAGERS = {
    "wash the dishes for a week": "washed every dish for a week", "carry the water": "carried the water",
    "wear a silly hat": "wore a silly hat", "bake a cake": "baked a cake", "sweep the yard": "swept the yard",
    "sing in the market square": "sang in the market square",
    "polish all the boots": "polished all the boots", "rake the leaves": "raked the leaves",
    "fetch the firewood": "fetched the firewood", "write a poem": "wrote a poem",
    "scrub the steps": "scrubbed the steps",
}  # fmt: skip
DELAYS = (
    "ran the wrong way around a pond", "had to sneeze nine times", "picked up a lucky coin",
    "got stuck in a hedge", "sat down to fan a hot face", "argued with a goose", "stopped to be admired",
    "stopped to eat a bun", "waved to the crowd for too long", "lay down for a minute and fell asleep",
    "took a short cut and got lost", "stopped to tie a lace", "chatted with a heron",
    "looked back and hit a post",
)  # fmt: skip


def tell(page: Page, hero: Character) -> tuple[str, ...]:
    """Agree on the course and the wager, run, and let the loser pay."""
    page.pick(
        "Nobody teased more than ",
        f"{hero.name} was often teased by ",
        "To the village came ",
        f"{hero.name} had a rival, ",
    )
    rival = introduce(page, [hero])
    token, goal, wager = _agree(page, hero, rival)
    page.say("\n\n")
    winner, loser = _race(page, hero, rival, token, goal)
    page.say("\n\n")
    _pay(page, winner, loser, wager)
    return (
        "whoever races must know how to lose",
        "a wager is easier made than paid",
        "a good loser wins a friend",
        "it is the last step that counts",
    )


def _agree(page: Page, hero: Character, rival: Character) -> tuple[str, str, str]:
    page.pick('. "I am quicker than you,"', '. "Nobody can beat me,"', '. "Your legs are made of butter,"')
    attribute(page, rival.name, BOASTED)
    page.pick(' "Then let us race', ' "We shall see! Let us race', ' "Prove it! We will race')
    page.say(" to the flag ")
    goal = pick_place(page)
    page.pick(f'," said {hero.name}', f'," answered {hero.name}')
    page.pick(', "and the loser must ', ', "and whoever comes last must ')
    wager = page.pick(*WAGERS)
    page.pick('." "Done!"', '." "Agreed!"', '." "As you like!"', '." They shook hands.')
    page.pick(" So on Sunday they stood ", " At noon they met ", " At once they lined up ")
    pick_place(page, [goal])
    page.say(f", {hero.name} with ")
    colour = pick_with_article(page, COLOURS)
    page.say(" ")
    token = f"{colour} {page.pick('ribbon', 'cap', 'sash', 'feather')}"
    page.pick(" for luck.", f" and {rival.name} with a grin.", ".")
    return token, goal, wager


def _race(page: Page, hero: Character, rival: Character, token: str, goal: str) -> tuple[Character, Character]:
    """Tell the race; returns the winner and the loser."""
    page.pick("A drum was beaten", "A whistle blew", "A cock crowed", "Someone dropped a handkerchief")
    page.pick(", and off they went. ", ", and away they ran. ", ", and the dust flew. ")
    leader = {one.name: one for one in (hero, rival)}[page.pick(hero.name, rival.name, weights=(1, 2))]
    follower = rival if leader is hero else hero
    page.pick(" took the lead", " was ahead from the start", " was soon far in front")
    page.pick(f", while {follower.name} ", f"; {follower.name} ")
    page.pick("ran at a steady pace", "puffed like a kettle", "stumbled over a root", "never looked up")
    if page.pick(". But then ", ". There was no ", weights=(3, 1)) == ". There was no ":
        page.pick("catching up that day", "way to stop such a runner", "time to breathe")
        winner, loser = leader, follower
    else:
        page.say(f"{leader.name} ")
        page.pick(*DELAYS)
        if page.pick(f", and {follower.name} ", f", and even so {leader.name} ") == f", and {follower.name} ":
            page.pick("slipped past", "caught up", "went by without a word")
            winner, loser = follower, leader
        else:
            page.pick("was too quick", "kept one step ahead")
            winner, loser = leader, follower
    page.pick(
        f". The flag {goal} was touched first by {winner.name}",
        f". {winner.name} reached the flag {goal} first",
    )
    if winner is hero:
        page.pick(f", and the {token} flew in the wind.", f", waving the {token}.", f", holding up the {token}.")
    else:
        page.pick(f", and the {token} had brought no luck.", f", and {hero.name} took off the {token}.")
    return winner, loser


def _pay(page: Page, winner: Character, loser: Character, wager: str) -> None:
    paid = WAGERS[wager]
    page.pick(
        f"{loser.name} kept the bargain and {paid}",
        f"So it was {loser.name} who {paid}",
        f"As agreed, {loser.name} {paid}",
    )
    page.pick(" with a red face", " without complaint", ", grumbling at first", " very badly")
    reaction = page.pick(
        ", and that was that.", f". {winner.name} watched ", f". Soon {winner.name} ", weights=(2, 1, 1)
    )
    if reaction.endswith("watched "):
        page.pick("from a bench", "with folded arms", "through the window", "with a grin", "from the roof")
        page.pick('. "You ran well,"', '. "It was a close race,"', '. "Next time you may win,"', '. "Be my friend,"')
        attribute(page, winner.name, SAID)
    elif reaction.startswith(". Soon"):
        page.pick("came to help", "brought two cups of tea", "felt sorry and joined in")
        page.pick(f", and {winner.he} and {loser.name} became friends.", ", and they laughed about it together.")
