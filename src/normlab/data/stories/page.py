"""The page a story is written on: where the grammar makes its choices, and why no text is ambiguous.

A story is told to a `Page` by two calls.  `say` puts down fixed words.  `pick` chooses among phrases *and
writes the chosen phrase at once*; later decisions may depend on it, but no decision stays unwritten, and
none is made before its words are due.  In one `pick` no phrase is the beginning of another.  Hence a text
can be read from left to right: at every `pick` at most one phrase fits what comes next, so each text has
exactly one sequence of choices, and -log p(choices) = -log p(text).  `ReadingPage` is that argument as a
program.
"""

import math
from collections.abc import Sequence
from typing import Protocol

from normlab.data.stories.choices import Choices


class Page(Protocol):
    """What a story is told to."""

    def say(self, words: str) -> None:
        """Put down fixed words."""
        ...

    def pick(self, *phrases: str, weights: Sequence[int] | None = None) -> str:
        """Choose one of the phrases, put it down and return it; no phrase may be a prefix of another."""
        ...


class WritingPage:
    """Collects the text of a story whose choices an oracle makes."""

    def __init__(self, choose: Choices) -> None:
        """Start an empty page on which `choose` decides."""
        self._choose = choose
        self._parts: list[str] = []

    @property
    def text(self) -> str:
        """What was written so far."""
        return "".join(self._parts)

    def say(self, words: str) -> None:
        """Put down fixed words."""
        self._parts.append(words)

    def pick(self, *phrases: str, weights: Sequence[int] | None = None) -> str:
        """Let the oracle choose one of the phrases, put it down and return it."""
        phrase = self._choose(phrases, weights)
        self._parts.append(phrase)
        return phrase


class NotInGrammar(ValueError):
    """A text that the grammar cannot produce; `position` is the first character where no continuation
    fits.
    """

    def __init__(self, position: int, found: str) -> None:
        """Say where the text leaves the grammar and what stands there."""
        super().__init__(f"the text must be a story of the grammar; at character {position} it leaves it: {found!r}")
        self.position = position


class ReadingPage:
    """Follows a finished text: every choice is the one that the text shows; `nats` is the surprisal so
    far.
    """

    def __init__(self, text: str) -> None:
        """Start reading at the first character of `text`."""
        self.nats = 0.0
        self.position = 0
        self._text = text

    def say(self, words: str) -> None:
        """Move past fixed words.  Raises NotInGrammar where the text differs from them."""
        if not self._text.startswith(words, self.position):
            self._fail((words,))
        self.position += len(words)

    def pick(self, *phrases: str, weights: Sequence[int] | None = None) -> str:
        """Move past the phrase that comes next.  Raises NotInGrammar if there is none."""
        for index, phrase in enumerate(phrases):
            if self._text.startswith(phrase, self.position):
                probability = 1 / len(phrases) if weights is None else weights[index] / sum(weights)
                self.nats -= math.log(probability)
                self.position += len(phrase)
                return phrase
        self._fail(phrases)
        raise AssertionError("_fail always raises")

    def finish(self) -> None:
        """Raises NotInGrammar where the text goes on after the end of its story."""
        if self.position != len(self._text):
            self._fail(("",))

    def _fail(self, expected: Sequence[str]) -> None:
        rest = self._text[self.position :]
        agreed = 0
        for phrase in expected:
            common = 0
            while common < min(len(phrase), len(rest)) and phrase[common] == rest[common]:
                common += 1
            agreed = max(agreed, common)
        raise NotInGrammar(self.position + agreed, rest[agreed : agreed + 40])
