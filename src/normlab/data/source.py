"""What a corpus is to the rest of the program."""

from collections.abc import Iterator
from typing import Literal, Protocol

Split = Literal["train", "valid"]


class Source(Protocol):
    """A corpus: documents in two splits."""

    def identity(self, split: Split) -> str:
        """SHA-256, in hex, of all that decides a split's documents: equal identities mean equal documents."""
        ...

    def documents(self, split: Split) -> Iterator[str]:
        """The texts of a split in a fixed order, without end-of-text tokens."""
        ...

    def nats(self, split: Split) -> float | None:
        """The summed surprisal of the split's documents under the process that made them; None if unknown."""
        ...
