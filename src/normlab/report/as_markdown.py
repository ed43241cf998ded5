"""A document as Markdown (GitHub's), pictures as files beside it."""

import re
from urllib.parse import quote

from normlab.report.document import Block, Cell, Code, Document, Listing, Paragraph, Picture, Table

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&])")
LINE_START = re.compile(r"^(\s*)([-+=]|\d+[.)])", re.MULTILINE)


def as_markdown(document: Document) -> str:
    """The whole file."""
    parts = [f"# {_inline(document.title)}", *map(_block, document.lead)]
    for section in document.sections:
        if section.blocks:
            parts += [f"## {_inline(section.title)}", *map(_block, section.blocks)]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            text = _text(block.text)
            return "\n".join(f"> {line}" for line in text.splitlines()) if block.is_notice else text
        case Listing():
            return "\n".join(f"- {_inline(item)}" for item in block.items)
        case Code():
            return "\n\n".join(
                [*([] if block.summary is None else [f"{_inline(block.summary)}:"]), _fenced(block.text)]
            )
        case Table():
            return _table(block)
        case Picture():
            name = block.name.replace("_", " ")
            return f"![{_inline(name)}]({quote(block.name)}.png)\n\n*{_inline(block.caption)}*"


def _table(table: Table) -> str:
    rows = [[_inline(name) for name in table.header], ["---"] * len(table.header)]
    rows += [[_cell(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(cell: Cell) -> str:
    first, *others = map(_inline, cell.text.split("\n"))
    text = "<br>".join([f"**{first}**" if cell.tone and first else first, *others])
    return text if cell.link is None else f"[{text}]({quote(cell.link)})"


def _fenced(text: str) -> str:
    """Within a fence longer than any that the text holds."""
    longest = max((len(found) for found in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _text(text: str) -> str:
    return LINE_START.sub(r"\1\\\2", _escaped(text)) if not text[:1].isdigit() else _escaped(text)


def _inline(text: str) -> str:
    return _escaped(" ".join(text.split()))


def _escaped(text: str) -> str:
    return SPECIAL.sub(r"\\\1", text)
