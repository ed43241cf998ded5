"""Token stores on the disk: written whole, by one process, checked when they are opened.

A store is ``<name>.bin``, flat little-endian ids, beside ``<name>.json``, which says what they are and come from.
The sidecar is renamed into place last and taken away first: where there is one, the tokens are whole.
The one process that writes has ``.<name>.lock``; the operating system frees it with the process.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from normlab.core.errors import DataError
from normlab.core.files import flush, write_whole

Result = TypeVar("Result")

FORMAT = "normlab-tokens-1"
UINT16_IDS = 1 << 16
ALWAYS_HASHED_BYTES = 128 << 20
PATIENCE_SECONDS = 1.0
PARTIAL = ".partial"


class StaleStore(DataError):
    """A store that is not there, or was made from another source, tokenizer or format: write it again."""


@dataclass(frozen=True, eq=False)
class TokenStore:
    """An open store. ``tokens`` is a read-only memory map; ``facts`` is what the writer counted on the way."""

    path: Path
    tokens: NDArray[np.integer]
    sha256: str
    source_identity: str
    tokenizer_identity: str
    facts: Mapping[str, int]


def stored_once(
    path: Path,
    make_blocks: Callable[[], Iterable[NDArray[np.integer]]],
    *,
    vocab_size: int,
    source_identity: str,
    tokenizer_identity: str,
    announce: Callable[[str], None],
    facts: Mapping[str, int] | None = None,
) -> TokenStore:
    """The store at ``path`` if it is there and not stale, else one written by whichever process comes first."""

    def load() -> TokenStore | None:
        with suppress(StaleStore):
            return open_store(path, source_identity=source_identity, tokenizer_identity=tokenizer_identity)

    def make() -> TokenStore:
        return write_store(
            path,
            make_blocks(),
            vocab_size=vocab_size,
            source_identity=source_identity,
            tokenizer_identity=tokenizer_identity,
            facts=facts,
        )

    return prepared_once(path, load, make, announce)


def prepared_once(
    path: Path, load: Callable[[], Result | None], make: Callable[[], Result], announce: Callable[[str], None]
) -> Result:
    """What ``load`` finds; where it finds None, what ``make`` makes, in one of the processes that ask for ``path``.

    The others wait, which they say on one line, and then load. Where the first one dies, another takes over.
    """
    found = load()
    if found is None:
        with _locked(path, announce):
            found = load()
            if found is None:
                found = make()
    return found


def write_store(
    path: Path,
    blocks: Iterable[NDArray[np.integer]],
    *,
    vocab_size: int,
    source_identity: str,
    tokenizer_identity: str,
    facts: Mapping[str, int] | None = None,
) -> TokenStore:
    """Write the blocks one after the other, holding one at a time, and open the result.

    Whatever happens on the way, ``path`` holds the older store, none, or the new one. ``facts`` is read after the
    last block, so whoever makes the blocks may count meanwhile. Raises DataError for an id that is not 0 to
    ``vocab_size`` - 1 and where the disk takes no more.
    """
    assert path.suffix == ".bin"
    sidecar = path.with_suffix(".json")
    with _locked(path, announce=lambda _: None), _removed_at_failure(_partial(path), _partial(sidecar)):
        _remove_leftovers(path.parent)
        dtype = np.dtype("<u2" if vocab_size <= UINT16_IDS else "<u4")
        count, sha256 = _write_tokens(_partial(path), blocks, vocab_size, dtype, shown=path)
        description = {
            "format": FORMAT,
            "dtype": dtype.name,
            "count": count,
            "sha256": sha256,
            "source": source_identity,
            "tokenizer": tokenizer_identity,
            "facts": dict(facts or {}),
        }
        with _disk_trouble_told(path):
            flush(_partial(path))
            _partial(sidecar).write_text(json.dumps(description, indent=2))
            flush(_partial(sidecar))
            sidecar.unlink(missing_ok=True)
            os.replace(_partial(path), path)
            flush(path.parent)
            os.replace(_partial(sidecar), sidecar)
            flush(path.parent)
        _remember_verified(path, sha256)
        return open_store(path, source_identity=source_identity, tokenizer_identity=tokenizer_identity)


def open_store(path: Path, *, source_identity: str | None = None, tokenizer_identity: str | None = None) -> TokenStore:
    """Memory-map a store. Raises StaleStore where it has to be written again, DataError where it is damaged.

    The size is always checked. The SHA-256 is checked at every opening up to ALWAYS_HASHED_BYTES; a larger file is
    hashed once for every time of change, which ``<name>.verified`` records where the folder can be written.
    """
    description = _description(path)
    for key, expected in (("source", source_identity), ("tokenizer", tokenizer_identity)):
        if expected is not None and description[key] != expected:
            raise StaleStore(f"{path} was made from another {key}. Write it again.")
    if not path.is_file():
        raise StaleStore(f"{path} is not there, though its sidecar is. Write it again.")
    dtype = np.dtype(description["dtype"]).newbyteorder("<")
    expected_bytes, found_bytes = description["count"] * dtype.itemsize, path.stat().st_size
    if found_bytes != expected_bytes:
        raise _damaged(path, f"it must hold {expected_bytes:,} bytes, not {found_bytes:,}")
    if not _is_verified(path, description["sha256"]):
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != description["sha256"]:
                raise _damaged(path, "its tokens do not match the sha256 in its sidecar")
        _remember_verified(path, description["sha256"])
    return TokenStore(
        path=path,
        tokens=map_tokens(path, dtype),
        sha256=description["sha256"],
        source_identity=description["source"],
        tokenizer_identity=description["tokenizer"],
        facts=description["facts"],
    )


def map_tokens(path: Path, dtype: np.dtype, *, skipped_bytes: int = 0) -> NDArray[np.integer]:
    """The ids in a file after its first bytes, memory-mapped and read-only; plain, as np.memmap indexes slowly."""
    if path.stat().st_size == skipped_bytes:
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=skipped_bytes).view(np.ndarray)


def _description(path: Path) -> dict[str, Any]:
    """What the sidecar says, every key there and of its type."""
    sidecar = path.with_suffix(".json")
    try:
        description = json.loads(sidecar.read_bytes())
    except FileNotFoundError:
        raise StaleStore(f"There is no complete token store at {path}. Write it again.") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(sidecar, f"it is not JSON ({error})") from None
    if not isinstance(description, dict) or "format" not in description:
        raise _damaged(sidecar, "it does not describe a token store")
    if description["format"] != FORMAT:
        raise StaleStore(f"{path} has the format {description['format']!r}, not {FORMAT!r}. Write it again.")
    types = {"dtype": str, "count": int, "sha256": str, "source": str, "tokenizer": str, "facts": dict}
    wrong = [key for key, kind in types.items() if not isinstance(description.get(key), kind)]
    if wrong or description["dtype"] not in ("uint16", "uint32"):
        raise _damaged(sidecar, f"{', '.join(wrong or ['dtype'])} must be what a token store has")
    return description


def _damaged(path: Path, reason: str) -> DataError:
    return DataError(f"{path} is damaged: {reason}. Delete it; the next run makes it again.")


def _write_tokens(
    partial: Path, blocks: Iterable[NDArray[np.integer]], vocab_size: int, dtype: np.dtype, shown: Path
) -> tuple[int, str]:
    """Write the blocks; how many tokens they held and their SHA-256."""
    count, digest = 0, hashlib.sha256()
    with _disk_trouble_told(shown):
        file = partial.open("wb", buffering=0)
    with file:
        for block in blocks:
            if block.size and not 0 <= block.min() <= block.max() < vocab_size:
                raise DataError(
                    f"A token id must be 0 to {vocab_size - 1}; got {block.min()} to {block.max()} for {shown}. "
                    "Use the tokenizer that the vocabulary belongs to."
                )
            data = memoryview(block.astype(dtype).tobytes())
            digest.update(data)
            count += block.size
            with _disk_trouble_told(shown):
                while data:
                    data = data[file.write(data) :]
    return count, digest.hexdigest()


@contextmanager
def _disk_trouble_told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"{path} cannot be written ({error.strerror}). Make room there, or choose another folder: cache=…"
        ) from None


@contextmanager
def _locked(path: Path, announce: Callable[[str], None]) -> Iterator[None]:
    """Alone among processes and threads; a thread that has the lock of ``path`` may take it again."""
    with _disk_trouble_told(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _lock_of(path)
        try:
            lock.acquire(timeout=PATIENCE_SECONDS)
        except Timeout:
            announce(f"Waiting for another process to prepare {path}.")
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock_of(path: Path) -> FileLock:
    return FileLock(path.with_name(f".{path.stem}.lock"), is_singleton=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}{PARTIAL}")


def _remove_leftovers(folder: Path) -> None:
    """Remove what dead writers left in the folder: the partial files whose lock nobody has."""
    for partial in folder.glob(f".*{PARTIAL}"):
        lock = _lock_of(partial.with_name(partial.name.removeprefix(".").removesuffix(PARTIAL)))
        if not lock.is_locked:
            with suppress(Timeout), lock.acquire(timeout=0):
                partial.unlink(missing_ok=True)


@contextmanager
def _removed_at_failure(*paths: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise


def _is_verified(path: Path, sha256: str) -> bool:
    with suppress(OSError):
        is_large = path.stat().st_size > ALWAYS_HASHED_BYTES
        return is_large and path.with_suffix(".verified").read_bytes() == _stamp(path, sha256)
    return False


def _remember_verified(path: Path, sha256: str) -> None:
    if path.stat().st_size > ALWAYS_HASHED_BYTES:
        with suppress(OSError):  # a folder that cannot be written costs a hash at every opening
            write_whole(path.with_suffix(".verified"), _stamp(path, sha256))


def _stamp(path: Path, sha256: str) -> bytes:
    facts = path.stat()
    return f"{sha256} {facts.st_size} {facts.st_mtime_ns}\n".encode()
