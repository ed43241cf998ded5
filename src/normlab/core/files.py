"""Files that appear whole or not at all."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file under a temporary name beside it, flush it to the disk, then rename it into place."""
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def folder_made_whole(path: Path) -> Iterator[Path]:
    """A temporary folder to fill; on leaving it is flushed to the disk and renamed to ``path``, which it replaces."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        for entry in [*temporary.iterdir(), temporary]:
            flush(entry)
        os.chmod(temporary, 0o777 & ~_umask())
        _replace_folder(path, temporary)
        flush(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def point_to(link: Path, target_name: str) -> None:
    """Make ``link`` a symbolic link to a neighbour called ``target_name``, replacing an older one in one step."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target_name)
    os.replace(temporary, link)


def clear_leftovers(folder: Path, pattern: str) -> None:
    """Remove what killed writers left beside the files and folders whose whole name matches ``pattern``.

    An older folder that had stepped aside for one that never came takes its place again. Nobody may be writing.
    """
    if not folder.is_dir():
        return
    leftover = re.compile(rf"\.({pattern})\.(?:[a-z0-9_]{{8}}(\.old)?|new)")
    for entry in sorted(folder.iterdir()):
        found = leftover.fullmatch(entry.name)
        if found is None:
            continue
        if found[2] is not None and not (folder / found[1]).exists():
            os.replace(entry, folder / found[1])
        elif entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _replace_folder(path: Path, new: Path) -> None:
    """Rename ``new`` to ``path``; an older folder steps aside whole before it is deleted, or back if that fails."""
    aside = new.with_name(f"{new.name}.old")
    if path.is_dir():
        os.replace(path, aside)
    try:
        os.replace(new, path)
    except BaseException:
        if aside.is_dir():
            os.replace(aside, path)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _umask() -> int:
    """The permissions that this process withholds from new files; temporary ones start with fewer."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def flush(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk before whatever follows."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
