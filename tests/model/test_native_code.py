"""C++ compiled on first use."""

import ctypes
import shutil
from pathlib import Path
from typing import Any

import pytest

from normlab.model import native_code

pytestmark = pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "answer.cpp"
    path.write_text('extern "C" int answer() { return 42; }')
    return path


def loaded(source: Path) -> Any:
    """As a fresh process would load it."""
    return native_code.load_native.__wrapped__(source)


def libraries(source: Path) -> list[Path]:
    return list((source.parent / "cache" / "normlab").glob("*"))


def test_it_is_compiled_once_and_then_found(source: Path, monkeypatch: pytest.MonkeyPatch):
    library = loaded(source)
    assert isinstance(library, ctypes.CDLL)
    assert library.answer() == 42
    [made] = libraries(source)
    written = made.stat().st_mtime_ns
    monkeypatch.setattr(native_code.subprocess, "run", lambda *args, **kwargs: pytest.fail("compiled again"))
    assert loaded(source).answer() == 42
    assert made.stat().st_mtime_ns == written


def test_another_source_is_another_library(source: Path):
    loaded(source)
    source.write_text('extern "C" int answer() { return 43; }')
    assert loaded(source).answer() == 43
    assert len(libraries(source)) == 2


def test_what_does_not_compile_is_no_library_and_leaves_nothing(source: Path):
    source.write_text("this is not C++")
    assert loaded(source) is None
    assert libraries(source) == []


def test_without_a_compiler_there_is_no_library(source: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native_code.shutil, "which", lambda name: None)
    assert loaded(source) is None


def test_a_folder_that_cannot_be_written_to_is_no_error(source: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(source))  # a file
    assert loaded(source) is None
