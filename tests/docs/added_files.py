"""What a page says to add to the project: whole files, and changes of files that are there."""

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"`((?:src|conf|tests)/[^`]+)`[^`]*?:\n\n```(python|yaml|diff)\n(.*?)```", re.DOTALL)


def copy_project(folder: Path, *, has_tests: bool = False) -> Path:
    """The project without its history and its runs."""
    for name in ("src", "conf", *(["tests"] * has_tests)):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def follow(page: str, project: Path) -> list[str]:
    """Write what the page has into the places that it names before each block; return these places."""
    found = BLOCK.findall(page)
    for place, kind, text in found:
        path = project / place
        if kind == "diff":
            path.write_text(_changed(path.read_text(), text))
        else:
            assert not path.exists(), f"{place} is there already"
            path.write_text(text)
    return [place for place, _, _ in found]


def _changed(text: str, change: str) -> str:
    """A file's text after a change whose hunks, parted by @@, have lines of context and lines with + or -."""
    for hunk in re.split(r"^@@.*\n", change, flags=re.MULTILINE):
        before = "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] != "+")
        after = "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] != "-")
        assert text.count(before) == 1, f"these lines are not in the file, or not once:\n{before}"
        text = text.replace(before, after)
    return text
