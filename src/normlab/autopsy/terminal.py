"""An autopsy in at most ten lines of 100 columns: what ended the run, where it began, what to try."""

import shlex
import textwrap
from collections.abc import Iterator

from normlab.autopsy.autopsy import Autopsy
from normlab.autopsy.sentences import ending, first_value, story_before

NUM_COLUMNS, NUM_LINES = 100, 10
MOST_COMMAND_LINES = 3
INDENT = "  "
IN_FULL = "in full: autopsy.md"


def terminal_text(autopsy: Autopsy) -> str:
    """The ending, the first non-finite value, the story, what to try.

    Where there is no room for all, whole sentences are left out: the last ones first, the story's second before the
    second on the value.
    """
    tail = _what_to_try(autopsy)
    value, story = first_value(autopsy), story_before(autopsy)
    while True:
        paragraphs = [ending(autopsy), " ".join(value), " ".join(story)]
        lines = [line for paragraph in paragraphs if paragraph for line in _wrapped(paragraph)]
        longer = next((said for said in (value[2:] and value, story[1:] and story, value[1:] and value) if said), None)
        if len(lines) + len(tail) <= NUM_LINES or not longer:
            return "\n".join([*lines, *tail][:NUM_LINES])
        longer.pop()


def _what_to_try(autopsy: Autopsy) -> list[str]:
    """The first command with its reason, and the other choices by name; without any, what is to be said instead."""
    if not autopsy.advice.suggestions:
        said = [*autopsy.advice.remarks] or ["No option here is known to address it."]
        return _wrapped(f"{said[0]} ({IN_FULL})")
    first, *others = autopsy.advice.suggestions
    instead = f"or {', '.join(other.choice for other in others)}" if others else "nothing else is known to help"
    command = list(_command_lines(first.command))
    if len(command) > MOST_COMMAND_LINES:
        command = [f"{INDENT}{first.choice}"]
    reason = textwrap.shorten(f"To try: {first.choice} {first.reason}:", NUM_COLUMNS, placeholder=" …")
    return [reason, *command, _cut(instead, f" ({IN_FULL})")]


def _command_lines(command: str) -> Iterator[str]:
    """A command on as few lines as it fits, joined by backslashes, its words whole."""
    line = INDENT
    for word in map(shlex.quote, shlex.split(command)):
        if len(line) + len(word) + len(" \\") > NUM_COLUMNS and line.strip():
            yield f"{line}\\"
            line = 2 * INDENT
        line += f"{word} "
    yield line.rstrip()


def _cut(text: str, ending: str) -> str:
    """The text up to the last choice that leaves room for the ending."""
    room = NUM_COLUMNS - len(ending)
    return (text if len(text) <= room else text[: room - 3].rpartition(", ")[0] + ", …") + ending


def _wrapped(paragraph: str) -> list[str]:
    return textwrap.wrap(paragraph, NUM_COLUMNS, break_long_words=False, break_on_hyphens=False)
