"""JSON that is read without trust."""

from pathlib import Path

import pytest

from normlab.core.strict_json import MAX_BYTES, parse_strict_json, read_strict_json, shown_name


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"a": NaN}', "the number NaN"),
        (b"[-Infinity]", "the number -Infinity"),
        (b'{"a": {"b": 1, "b": 1}}', "'b' twice"),
        (b"[" * 200_000, "nested too deeply"),
        (b" " * MAX_BYTES + b"1", "longer than"),
        ("{}".encode("utf-16"), "utf-8"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b"9" * 5_000, "digits"),
        (b"", "Expecting value"),
        (b"{} {}", "Extra data"),
    ],
)
def test_what_is_not_strict_or_too_much_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_strict_json(data)


def test_values_come_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('{"a": [1, 0.5, null, true, "\\u00e9"], "b": {}}')
    assert read_strict_json(path) == {"a": [1, 0.5, None, True, "é"], "b": {}}
    (tmp_path / "link").symlink_to(path)
    for name in ("link", "absent"):
        with pytest.raises(ValueError, match="no regular file"):
            read_strict_json(tmp_path / name)


def test_a_name_is_shown_on_one_line_and_not_too_long() -> None:
    assert shown_name("layers.0.weight") == "'layers.0.weight'"
    shown = shown_name("\x1b\n\ud800" + "é" * 1_000)
    assert shown.startswith("'\\x1b\\n\\ud800\\xe9") and shown.isascii() and len(shown) < 400
