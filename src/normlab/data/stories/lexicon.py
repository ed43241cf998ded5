"""The words of the stories, and the few rules of English that they need.

Within one list no entry is the beginning of another (see page.py).  Lists that only one plot uses stand in
that plot's file.
"""

NUMBERS = (
    "no",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
)

SHE_NAMES = (
    "Ada", "Beatrix", "Dottie", "Gilda", "Iris", "Lucy", "Penny", "Stella", "Zelda", "Clara", "Fern", "Hazel",
    "Ivy", "Juno", "Mabel", "Nora", "Olive", "Pippa", "Rosa", "Tilda", "Una", "Wren",
)  # fmt: skip
HE_NAMES = (
    "Arlo", "Bartholomew", "Dexter", "Ferdinand", "Humphrey", "Igor", "Leopold", "Ned", "Percival", "Simon",
    "Barnaby", "Casper", "Edwin", "Finn", "Gus", "Hugo", "Jasper", "Milo", "Otto", "Quentin", "Rufus", "Toby",
    "Wilf",
)  # fmt: skip
CHILDREN = ("girl", "boy")
ANIMALS = (
    "rabbit", "hamster", "toad", "beaver", "weasel", "goose", "donkey", "pony", "turtle", "fox", "hedgehog",
    "badger", "mouse", "otter", "squirrel", "duck", "bear", "frog", "owl", "goat", "mole", "kitten", "puppy",
    "lamb",
)  # fmt: skip

TRAIT_SIGNS = {
    "brave": ("was the first to cross the old bridge", "never minded the dark"),
    "shy": ("hid whenever a stranger knocked", "spoke in a whisper even at home"),
    "curious": ("looked under every stone", "asked nine questions before breakfast"),
    "cheerful": ("sang even when it hailed", "laughed at every joke, good or bad"),
    "careful": ("tied every knot twice", "looked left and right before every step"),
    "clever": ("could open any lock with a twig", "knew the answer to every riddle in the valley"),
    "gentle": ("carried snails out of the road", "never woke a sleeping bee"),
    "lively": ("could not sit still through one meal", "ran wherever others walked"),
    "patient": ("could wait all day for a flower to open", "never pulled at a tangled thread"),
    "stubborn": ("would not wear shoes, not even in snow", "argued with the wind itself"),
    "eager": ("was up before the rooster", "began every task at a run"),
    "untidy": ("kept acorns in the teapot", "could never find two socks that matched"),
    "absent-minded": ("once put the cat to bed and sat by the door instead", "often wore two hats at once"),
    "polite": ("bowed to every scarecrow", "said good morning to the cows"),
    "forgetful": ("once went out for milk and came home with bricks", "wore odd boots"),
    "thrifty": ("saved every bit of string", "mended each sock seven times"),
    "dreamy": ("saw castles in every cloud", "walked into the same post each day"),
    "proud": ("polished every button each morning", "walked with a very straight back"),
}

LOOKS = (
    "little",
    "young",
    "small",
    "tall",
    "plump",
    "skinny",
    "bright-eyed",
    "red-nosed",
    "freckled",
    "sleepy",
)

HOMES = (
    "in a cottage by the river", "in a tent in the dunes", "on an island in the lake",
    "beneath a clock tower", "in a house on stilts", "in a burrow under the hill",
    "at the edge of a quiet wood", "in a crooked house on Plum Lane", "beside an old stone mill",
    "in a hollow tree", "near the harbour wall", "at the top of a windy hill", "behind the village bakery",
    "in a house with a round green door", "on a small farm", "among the apple trees",
)  # fmt: skip
HABITS = (
    "hum old songs", "chase falling leaves", "tell the time by the sun", "build tiny dams",
    "paint snail shells", "write letters to the moon", "listen to the frogs", "count the clouds",
    "skip stones", "watch the ants at work", "lie in the sun", "draw maps in the dust",
    "climb the low branches", "make up riddles", "collect smooth pebbles", "whistle to the birds",
    "roll down the slopes", "bake seed cakes", "fold paper birds", "plant bean rows",
)  # fmt: skip

COLOURS = (
    "red", "black", "crimson", "striped", "spotted", "blue", "green", "yellow", "purple", "orange", "white",
    "brown", "silver", "golden", "pink", "grey",
)  # fmt: skip
DRINKS = (
    "hot milk",
    "mint tea",
    "apple cider",
    "onion soup",
    "barley broth",
    "cocoa",
    "honey water",
    "pea soup",
)
GIFTS = (
    "a jar of honey", "a sack of chestnuts", "a pair of mittens", "a paper lantern", "a basket of figs",
    "a bag of walnuts", "a warm bun", "a bunch of daisies", "a pot of jam", "an apple tart",
    "a slice of plum cake", "a wooden flute", "a string of shells", "a round cheese",
)  # fmt: skip


def with_article(noun_phrase: str) -> str:
    """`a` or `an` before a noun phrase, by its first letter: the lists hold no silent h and no `you`
    sound.
    """
    return f"an {noun_phrase}" if noun_phrase[0] in "aeiou" else f"a {noun_phrase}"


def counted(number: int, singular: str, plural: str) -> str:
    """`one plum`, `three plums`, `no plums`."""
    return f"{NUMBERS[number]} {singular if number == 1 else plural}"


def listed(items: list[str]) -> str:
    """`a`, `a and b`, `a, b, and c`."""
    if len(items) <= 2:
        return " and ".join(items)
    return f"{', '.join(items[:-1])}, and {items[-1]}"
