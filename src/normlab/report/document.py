"""A report as a list of blocks, for HTML and for Markdown alike. All texts are plain: markup in them means nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "good", "bad", "open"]


@dataclass(frozen=True)
class Paragraph:
    """A few sentences; ``is_notice`` sets them apart."""

    text: str
    is_notice: bool = False


@dataclass(frozen=True)
class Listing:
    """Items of equal rank."""

    items: Sequence[str]


@dataclass(frozen=True)
class Code:
    """A text to be copied, kept as it is; under ``summary`` it is folded away where that is possible."""

    text: str
    summary: str | None = None


@dataclass(frozen=True)
class Cell:
    """A place in a table; lines are parted by line feeds.

    ``sort`` orders numbers that the text shows with more around them; ``tone`` is of the first line; ``link`` is a path
    relative to the report.
    """

    text: str
    sort: float | None = None
    tone: Tone = ""
    link: str | None = None


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as the header has; one of empty names is not shown."""

    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Picture:
    """A figure, ``name`` being its file's without the ending."""

    name: str
    png: bytes
    caption: str


Block = Paragraph | Listing | Code | Table | Picture


@dataclass(frozen=True)
class Section:
    """A part of the report; one without blocks is left out."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Document:
    """Title, what comes before the first heading, and the parts."""

    title: str
    lead: Sequence[Block]
    sections: Sequence[Section]

    @property
    def pictures(self) -> list[Picture]:
        """All of them."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Picture)]
