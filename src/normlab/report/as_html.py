"""A document as one HTML file that needs no other: pictures, style and script are in it, and nothing is fetched.

What it says of content it may load (its Content-Security-Policy) allows no script but its own, known by its hash.
"""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from urllib.parse import quote

from normlab.report.document import Block, Cell, Code, Document, Listing, Paragraph, Picture, Section, Table


def as_html(document: Document) -> str:
    """The whole file."""
    style, script = _asset("page.css"), _asset("page.js")
    sections = [section for section in document.sections if section.blocks]
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        "<head>",
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_policy(style, script))}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="color-scheme" content="light dark">',
        f"<title>{escape(document.title)}</title>",
        f"<style>{style}</style>",
        "</head>",
        "<body>",
        "<main>",
        f"<h1>{escape(document.title)}</h1>",
        *map(_block, document.lead),
        _contents(sections),
        *(_section(number, section) for number, section in enumerate(sections, start=1)),
        "</main>",
        f"<script>{script}</script>",
        "</body>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _policy(style: str, script: str) -> str:
    """Allowed are pictures within the file, this style and this script."""
    allowed = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in (style, script)
    ]
    return f"default-src 'none'; img-src data:; style-src {allowed[0]}; script-src {allowed[1]}"


def _contents(sections: Sequence[Section]) -> str:
    items = [f'<li><a href="#part-{number}">{escape(part.title)}</a></li>' for number, part in enumerate(sections, 1)]
    return f"<nav><ol>{''.join(items)}</ol></nav>"


def _section(number: int, section: Section) -> str:
    blocks = "\n".join(map(_block, section.blocks))
    return f'<section id="part-{number}">\n<h2>{escape(section.title)}</h2>\n{blocks}\n</section>'


def _block(block: Block) -> str:
    match block:
        case Paragraph():
            kind = ' class="notice"' if block.is_notice else ""
            return f"<p{kind}>{_lines(block.text)}</p>"
        case Listing():
            return f"<ul>{''.join(f'<li>{_lines(item)}</li>' for item in block.items)}</ul>"
        case Code():
            text = f"<pre>{escape(block.text)}</pre>"
            return (
                text
                if block.summary is None
                else f"<details><summary>{escape(block.summary)}</summary>{text}</details>"
            )
        case Table():
            return _table(block)
        case Picture():
            return _picture(block)


def _table(table: Table) -> str:
    names = "".join(f'<th scope="col">{escape(name)}</th>' for name in table.header)
    head = f"<thead><tr>{names}</tr></thead>\n" if any(table.header) else ""
    body = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    return f'<div class="wide"><table>{head}<tbody>\n{body}\n</tbody></table></div>'


def _cell(cell: Cell) -> str:
    first, *others = cell.text.split("\n")
    shown = f'<span class="tone {cell.tone}">{escape(first)}</span>' if cell.tone else escape(first)
    text = "<br>".join([shown, *map(escape, others)])
    if cell.link is not None:
        text = f'<a href="{escape(quote(cell.link))}">{text}</a>'
    sort = "" if cell.sort is None else f' data-sort="{cell.sort!r}"'
    return f"<td{sort}>{text}</td>"


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode()
    caption = escape(picture.caption)
    image = f'<img src="data:image/png;base64,{data}" alt="{caption}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _lines(text: str) -> str:
    return "<br>".join(map(escape, text.split("\n")))


def _asset(name: str) -> str:
    return files("normlab.report").joinpath(name).read_text(encoding="utf-8").strip()
