"""What a corpus is to the rest of the program."""

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

Split = Literal["train", "valid"]


class Piece(NamedTuple):
    """A document, or a part of one that ends where no pre-token crosses. End-of-text tokens are not in the text."""

    text: str
    ends_document: bool


class Source(Protocol):
    """A corpus: documents in two splits."""

    def identity(self, split: Split) -> str:
        """SHA-256, in hex, of all that decides a split's documents: equal identities mean equal documents."""
        ...

    def pieces(self, split: Split) -> Iterator[Piece]:
        """The documents of a split in a fixed order, long ones in several pieces."""
        ...

    def nats(self, split: Split) -> float | None:
        """The summed surprisal of the split's documents under the process that made them; None if unknown."""
        ...
