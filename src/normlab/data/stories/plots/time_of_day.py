"""When something happens: the beginning of the first sentence of several plots."""

from normlab.data.stories.page import Page


def pick_time_of_day(page: Page) -> None:
    """Write `One windy morning `, with the space at the end."""
    page.say("One ")
    page.pick(
        "rainy",
        "frosty",
        "hazy",
        "breezy",
        "cloudy",
        "fine",
        "mild",
        "drowsy",
        "windy",
        "sunny",
        "misty",
        "bright",
        "cool",
        "golden",
        "quiet",
        "warm",
    )
    page.say(" ")
    page.pick(
        "morning ",
        "afternoon ",
        "day in spring ",
        "day in autumn ",
        "market day ",
        "evening ",
        "Sunday ",
        "day in May ",
        "day in June ",
        "harvest day ",
    )
