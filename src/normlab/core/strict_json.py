"""JSON from a file that anybody may have written: read without trust, and with little memory."""

import json
from pathlib import Path
from typing import Any, NoReturn

MAX_BYTES = 4 * 2**20
SHOWN_CHARACTERS = 80


def read_strict_json(path: Path) -> Any:
    """The value in a regular file; raises OSError where it cannot be read, ValueError as :func:`parse_strict_json`."""
    if path.is_symlink() or not path.is_file():
        raise ValueError("it is no regular file")
    with path.open("rb") as file:
        return parse_strict_json(file.read(MAX_BYTES + 1))


def parse_strict_json(data: bytes) -> Any:
    """The value of strictly valid UTF-8 JSON: no key twice in an object, no bare NaN, bounded in length and depth.

    Raises ValueError, with what is wrong in words.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is longer than {MAX_BYTES:,} bytes")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_without_repetition, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def shown_name(name: object) -> str:
    """A name from such a file, fit to be printed: quoted, on one line, in ASCII, and not too long."""
    text = str(name)
    return ascii(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "...")


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise ValueError(f"it has {shown_name(twice)} twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"it has the number {name}, which is no JSON")
