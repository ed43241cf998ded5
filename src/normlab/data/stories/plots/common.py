"""Turns of phrase that several plots share."""

from normlab.data.stories.page import Page


def pick_time_of_day(page: Page) -> str:
    """Write `One windy morning ` with the space; returns the weather word."""
    page.say("One ")
    weather = page.pick("windy", "sunny", "misty", "bright", "cool", "golden", "quiet", "warm")
    page.say(" ")
    page.pick("morning ", "afternoon ", "day in spring ", "day in autumn ", "market day ")
    return weather
