"""Files and folders appear whole or not at all, also where the writer fails or is killed."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from normlab.core.files import folder_made_whole, point_to, write_whole


class WriterFailed(Exception):
    """What a writer may raise."""


@pytest.fixture
def umask() -> Iterator[int]:
    """A umask that is not the usual one."""
    before = os.umask(0o027)
    yield 0o027
    os.umask(before)


def fail(*arguments: object) -> None:
    raise WriterFailed


def permissions(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def run_and_be_killed(code: str, folder: Path) -> None:
    """Run ``code`` in a process of its own, in which ``die()`` is SIGKILL."""
    preamble = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from normlab.core import files\n"
        "def die(*arguments, **options): os.kill(os.getpid(), signal.SIGKILL)\n"
        "folder = Path(sys.argv[1])\n"
    )
    process = subprocess.run([sys.executable, "-c", preamble + code, str(folder)], check=False)
    assert process.returncode == -signal.SIGKILL


def visible(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))


def test_a_file_holds_the_text_or_the_bytes_and_its_folders_are_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_whole(path, "é\r\n")
    assert path.read_bytes() == b"\xc3\xa9\r\n"
    write_whole(path, b"\xff\x00")
    assert path.read_bytes() == b"\xff\x00"
    assert os.listdir(path.parent) == ["file"]


@pytest.mark.parametrize("failing", ["fsync", "chmod", "replace"])
def test_a_file_that_cannot_be_finished_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    write_whole(tmp_path / "file", "older")
    monkeypatch.setattr(os, failing, fail)
    for name in ("file", "new"):
        with pytest.raises(WriterFailed):
            write_whole(tmp_path / name, "newer")
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "older"


def test_a_killed_process_leaves_the_older_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", "older")
    run_and_be_killed("os.replace = die\nfiles.write_whole(folder / 'file', 'newer')", tmp_path)
    assert visible(tmp_path) == ["file"]
    assert (tmp_path / "file").read_text() == "older"


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path, umask: int) -> None:
    write_whole(tmp_path / "file", "")
    assert permissions(tmp_path / "file") == 0o666 & ~umask
    assert os.umask(umask) == umask  # asking for it did not change it


def test_a_folder_appears_on_leaving_and_replaces_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    with folder_made_whole(path) as temporary:
        (temporary / "a").write_text("1")
        assert not path.exists()
    assert {entry.name: entry.read_text() for entry in path.iterdir()} == {"a": "1"}

    with folder_made_whole(path) as temporary:
        (temporary / "b").write_text("2")
        assert (path / "a").read_text() == "1"
    assert {entry.name: entry.read_text() for entry in path.iterdir()} == {"b": "2"}
    assert os.listdir(path.parent) == ["folder"]


@pytest.mark.parametrize("error", [WriterFailed, KeyboardInterrupt])
def test_a_folder_whose_writer_fails_leaves_the_older_one(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "older").touch()
    for name in ("folder", "new"):
        with pytest.raises(error), folder_made_whole(tmp_path / name) as temporary:
            (temporary / "half").touch()
            raise error
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(tmp_path / "folder") == ["older"]


@pytest.mark.parametrize("failing", ["fsync", "chmod", "replace"])
def test_a_folder_that_cannot_be_finished_leaves_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "older").touch()
    monkeypatch.setattr(os, failing, fail)
    with pytest.raises(WriterFailed), folder_made_whole(tmp_path / "folder") as temporary:
        (temporary / "newer").touch()
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(tmp_path / "folder") == ["older"]


def test_a_folder_that_cannot_take_its_place_leaves_it_to_the_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "older").touch()
    rename, num_renamed = os.replace, 0

    def fail_the_second_time(source: Path, target: Path) -> None:
        nonlocal num_renamed
        num_renamed += 1
        if num_renamed == 2:
            raise WriterFailed
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail_the_second_time)
    with pytest.raises(WriterFailed), folder_made_whole(tmp_path / "folder") as temporary:
        (temporary / "newer").touch()
    assert os.listdir(tmp_path) == ["folder"]
    assert os.listdir(tmp_path / "folder") == ["older"]


def test_what_is_renamed_lies_beside_its_target_and_so_on_the_same_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, renamed = os.replace, []

    def watch(source: str | Path, target: Path) -> None:
        renamed.append((Path(source).parent, target))
        rename(source, target)

    monkeypatch.setattr(os, "replace", watch)
    write_whole(tmp_path / "file", "")
    with folder_made_whole(tmp_path / "folder"):
        pass
    assert renamed == [(tmp_path, tmp_path / "file"), (tmp_path, tmp_path / "folder")]


FOLDER_WRITER = """
with files.folder_made_whole(folder / "made") as temporary:
    (temporary / "newer_a").touch()
    {inside}
    (temporary / "newer_b").touch()
"""


@pytest.mark.parametrize(
    ("before", "inside"),
    [
        ("", "die()"),
        ("os.fsync = die", ""),
        ("os.rmdir = die", ""),  # between the files and the folder itself of what is deleted
        ("files.shutil.rmtree = die", ""),
    ],
)
def test_a_killed_process_leaves_the_older_folder_or_the_newer_one(tmp_path: Path, before: str, inside: str) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "older_a").touch()
    (tmp_path / "made" / "older_b").touch()
    run_and_be_killed(before + FOLDER_WRITER.format(inside=inside), tmp_path)
    assert visible(tmp_path) == ["made"]
    assert sorted(os.listdir(tmp_path / "made")) in (["older_a", "older_b"], ["newer_a", "newer_b"])


def test_a_folder_has_the_permissions_of_any_new_folder(tmp_path: Path, umask: int) -> None:
    with folder_made_whole(tmp_path / "folder"):
        pass
    assert permissions(tmp_path / "folder") == 0o777 & ~umask


def test_a_link_is_made_and_moved(tmp_path: Path) -> None:
    link = tmp_path / "last"
    for name in ("step_1", "step_2"):
        (tmp_path / name).mkdir()
        point_to(link, name)
        assert os.readlink(link) == name
    assert sorted(os.listdir(tmp_path)) == ["last", "step_1", "step_2"]


def test_a_link_can_be_moved_after_an_earlier_attempt_was_killed(tmp_path: Path) -> None:
    point_to(tmp_path / "last", "step_1")
    run_and_be_killed("os.replace = die\nfiles.point_to(folder / 'last', 'step_2')", tmp_path)
    assert os.readlink(tmp_path / "last") == "step_1"
    point_to(tmp_path / "last", "step_3")
    assert os.readlink(tmp_path / "last") == "step_3"
    assert os.listdir(tmp_path) == ["last"]
