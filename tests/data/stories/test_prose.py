"""What every story keeps: correct English, and facts that agree from the first sentence to the last."""

import random
import re
from functools import cache

import pytest

from normlab.data.stories.choices import SampledChoices
from normlab.data.stories.grammar import PLOTS, tell_story
from normlab.data.stories.lexicon import COLOURS, HE_NAMES, NUMBERS, SHE_NAMES
from normlab.data.stories.plots import contest, lost, making, message, night, promise, sharing, storm

NUM_STORIES = 4000
NAMES = "|".join(SHE_NAMES + HE_NAMES)


@cache
def stories() -> tuple[str, ...]:
    return tuple(tell_story(SampledChoices(random.Random(f"prose/{index}"))) for index in range(NUM_STORIES))


def stories_of(plot) -> list[str]:
    announcements = [words for words, tell in PLOTS.items() if tell is plot.tell]
    found = [text for text in stories() if any(words in text for words in announcements)]
    assert len(found) > NUM_STORIES / 16
    return found


def pattern_in(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text, flags=re.DOTALL)
    assert match is not None, f"{pattern!r} is not in:\n{text}"
    return match


def test_stories_are_ascii_paragraphs_with_single_spaces_and_whole_sentences() -> None:
    for text in stories():
        assert text.isascii()
        assert text == text.strip()
        assert not re.search(r"  | \n|\n |\n\n\n|(?<!\n)\n(?!\n)|[,.;:!?]{2}| [,.;:!?]|,\"[A-Z]", text), text
        for paragraph in text.split("\n\n"):
            assert re.match(r'"?[A-Z]', paragraph), paragraph
            assert re.search(r'[.!?]"?$', paragraph), paragraph
            assert paragraph.count('"') % 2 == 0, paragraph


def test_sentences_begin_with_a_capital_letter() -> None:
    for text in stories():
        assert not re.search(r"[.] [a-z]", text), text
        assert not re.search(r"[.!?][A-Za-z]", text), text


def test_a_and_an_go_by_the_next_letter() -> None:
    for text in stories():
        assert not re.search(r"\b[Aa] [aeiou]", text), text
        assert not re.search(r"\b[Aa]n (?!hour\b)[^aeiou]", text), text


def test_most_stories_have_the_intended_length() -> None:
    lengths = sorted(map(len, stories()))
    assert 700 < lengths[NUM_STORIES // 2] < 900
    assert lengths[0] > 350 and lengths[-1] < 1400


def test_everyone_has_one_name_and_the_hero_has_the_pronouns_of_that_name() -> None:
    for text in stories():
        introduced = re.findall(rf"[a-z] (?:named|called) ({NAMES})\b", text)
        assert len(set(introduced)) == len(introduced) >= 1, text
        assert set(re.findall(rf"\b(?:{NAMES})\b", text)) == set(introduced), text
        opening = text.split("\n\n")[0]
        wrong = r"\b(?:he|him|his|He|His)\b" if introduced[0] in SHE_NAMES else r"\b(?:she|her|She|Her)\b"
        assert not re.search(wrong, opening), opening


@pytest.mark.parametrize("plot", [contest, lost, making, message, night, promise, sharing, storm])
def test_a_cast_of_one_gender_never_meets_the_pronouns_of_the_other(plot) -> None:
    num_seen = 0
    for text in stories_of(plot):
        cast = set(re.findall(rf"\b(?:{NAMES})\b", text))
        if cast <= set(SHE_NAMES):
            wrong = r"\b(?:he|him|his)\b"
        elif cast <= set(HE_NAMES):
            wrong = r"\b(?:she|her|hers)\b"
        else:
            continue
        num_seen += 1
        assert not re.search(wrong, text, flags=re.IGNORECASE), text
    assert num_seen > 10


def test_girls_and_boys_have_names_of_their_own() -> None:
    for text in stories():
        for kind, name in re.findall(rf"\b(girl|boy) (?:named|called) ({NAMES})\b", text):
            assert name in (SHE_NAMES if kind == "girl" else HE_NAMES)


def test_what_was_lost_is_found_in_its_colour_in_a_place_that_was_visited() -> None:
    for text in stories_of(lost):
        treasure = pattern_in(r"(?:small|little|certain|tiny) (\S+ \S+), which", text)[1]
        walk, search = text.split("\n\n")[1], text.split("\n\n")[3]
        found = pattern_in(r"([^,.]+), and there (?:it was:|lay|they saw) the (\w+ \w+), ", search)
        assert found[2] == treasure, text
        place = re.sub(r"^ ?(?:First they looked|Next they tried|After that they searched) ", "", found[1])
        assert f" {place}" in walk, text
        assert treasure in walk


def test_searched_places_are_visited_places_and_differ() -> None:
    for text in stories_of(lost):
        walk, search = text.split("\n\n")[1], text.split("\n\n")[3]
        places = re.findall(r"(?:they looked|they tried|they searched) ([^,]+), (?:but|and)", search)
        assert 1 <= len(set(places)) == len(places) <= 3
        assert all(f" {place}" in walk for place in places)


def test_what_got_wet_or_blew_away_is_what_was_put_on_and_the_errand_is_done() -> None:
    for text in stories_of(storm):
        garments = re.findall(rf"\b\w+ (?:{'|'.join(storm.GARMENTS)})\b", text)
        assert len(garments) >= 4
        assert len(set(garments)) == 1, text
        sent_for = pattern_in(r"(?:for|fetch) ([a-z ]+)\. ", text.split("\n\n")[1])[1]
        assert sent_for in storm.ERRANDS
        assert f"went to get the {sent_for}." in text or f'he {sent_for}!"' in text, text


def test_a_promise_is_kept_or_broken_about_the_task_that_was_asked() -> None:
    for text in stories_of(promise):
        task = pattern_in(rf"({'|'.join(promise.TASKS)}) on ({'|'.join(promise.DAYS)})", text)
        rest = text.split("\n\n", 2)[2]
        assert [one for one in promise.TASKS if one in rest] == [task[1]], text
        assert set(re.findall("|".join(promise.DAYS), rest)) == {task[2]}
        kept = "I cannot come" in text
        assert kept != ('"Why not?"' in text)
        assert ("alone" in text.split("\n\n")[3] and not kept) or kept


def test_the_basket_is_counted_down_without_a_mistake() -> None:
    for text in stories_of(sharing):
        plural = pattern_in(rf"\b({'|'.join(sharing.GOODS)})\b", text)[1]
        word = rf"({'|'.join(NUMBERS)}) ({plural}|{sharing.GOODS[plural]})\b"
        gathered, *rest = text.split("\n\n")[1:]
        left = NUMBERS.index(pattern_in(word, gathered)[1])
        shared = [paragraph for paragraph in rest if " gave " in paragraph]
        assert shared
        for paragraph in shared:
            assert left > 0
            given = NUMBERS.index(pattern_in(rf"gave (?:him|her) {word}", paragraph)[1])
            left -= given
            tail = paragraph[paragraph.rindex(". ") :]
            if left == 0:
                assert "empty" in tail or "nothing" in tail, text
            else:
                assert pattern_in(word, tail)[1] == NUMBERS[left], text
        for number, noun in re.findall(word, text):
            assert (noun == plural) == (number != "one"), text
        assert ("the last " in text) == (left > 0)
        if left == 1:
            assert f"the last {sharing.GOODS[plural]} " in text
        assert not re.search(r"there was (?!one)\w+ .* in the|there were one", "".join(shared)), text


def test_the_parts_are_collected_and_listed_in_the_order_in_which_they_were_named() -> None:
    for text in stories_of(making):
        named = pattern_in(r'(?:For that I need|All it takes is) ([^"]+)\."', text)[1]
        assert f"With {named} " in text or f" had {named}, " in text
        gotten = re.findall(r"(?:gave (?:him|her)|let (?:him|her) have) ([^.]+?) for (?!hair)", text)
        assert gotten == re.split(r", and |, ", named), text
        assert len(set(gotten)) == 3, text
        thing = pattern_in(rf"make an? (\w+ (?:{'|'.join(making.PARTS)}))[,!]", text)[1]
        assert set(re.findall(rf"\b(?:{'|'.join(COLOURS)}) (?:{'|'.join(making.PARTS)})\b", text)) == {thing}, text


def test_the_message_arrives_word_for_word_where_it_was_sent() -> None:
    for text in stories_of(message):
        sent = pattern_in(rf"(?:named|called) ({NAMES}), ([^,]+), and say that ([^\"]+)\.\"", text)
        arrived = pattern_in(r"says that ([^\"]+),\"", text)
        assert arrived[1] == sent[3]
        assert re.search(rf"{sent[1]}(?: wave)? {sent[2]}\.", text)


def test_the_loser_of_the_race_pays_the_wager_and_the_flag_stays_in_its_place() -> None:
    for text in stories_of(contest):
        first, second = re.findall(rf"(?:named|called) ({NAMES})\b", text)
        goal = pattern_in(r"race to the flag ([^,]+),", text)[1]
        wager = pattern_in(r"must ([^.]+)\.\"", text)[1]
        winner = pattern_in(rf"flag {goal} was touched first by (\w+)|(\w+) reached the flag {goal} first", text)
        winner_name = winner[1] or winner[2]
        loser = second if winner_name == first else first
        assert {winner_name, loser} == {first, second}
        assert pattern_in(rf"(\w+)(?: who| kept the bargain and)? {contest.WAGERS[wager]}", text)[1] == loser
        token = pattern_in(r"with an? (\w+ (?:ribbon|cap|sash|feather))", text)[1]
        assert text.count(f"the {token}") == 1


def test_the_noise_at_night_has_a_cause_that_makes_it_and_the_fear_and_the_light_stay_the_same() -> None:
    for text in stories_of(night):
        noises = {noise for noise in night.NOISES if f" {noise}" in text}
        causes = [(noise, one) for noise, some in night.NOISES.items() for one in some if f"{one}!" in text]
        assert len(noises) == len(causes) == 1
        assert causes[0][0] in noises, text
        assert len([fear for fear in night.FEARS if re.search(rf"\b{fear.partition(' ')[2]}\b", text)]) == 1, text
        light = re.findall(r"(\w+ (?:lamp|lantern|candle))\b", text)
        assert len(light) == 2 and light[0] == light[1], text


def test_the_closing_recalls_the_home_the_trait_and_the_habit_of_the_opening() -> None:
    num_recalled = 0
    for text in stories():
        opening, closing = text.split("\n\n")[0], text.split("\n\n")[-1]
        if match := re.match(r"Somewhere (.+), an? (\S+) (\w+) ", closing):
            num_recalled += 1
            assert match[1] in opening and f" {match[2]} " in opening and f" {match[3]} " in opening, text
        if match := re.match(
            r"The next morning \w+ was ready to (.+) again|As for \w+, s?he went home to ([^,]+),", closing
        ):
            num_recalled += 1
            assert (match[1] or match[2]) in opening, text
    assert num_recalled > NUM_STORIES / 8
