"""The layer rule, and the size of the entry point."""

import re
from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[1]


def test_imports_point_one_way(monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert lint_imports(cache_dir=None) == 0


def test_the_entry_point_is_short() -> None:
    assert len((ROOT / "src" / "run.py").read_text().splitlines()) <= 40


def test_nothing_is_pickled() -> None:
    for path in (ROOT / "src").rglob("*.py"):
        assert not re.search(
            r"import (c?pickle|shelve|joblib)|torch\.(save|load)\(|allow_pickle=True", path.read_text()
        )
