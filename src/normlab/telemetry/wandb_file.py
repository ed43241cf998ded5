"""What is in the file of a W&B run, for a run that goes on: a log in LevelDB's format of protobuf records.

The format is that of https://github.com/google/leveldb/blob/main/doc/log_format.md, after a header of W&B's own.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HEADER_BYTES, BLOCK_BYTES = 7, 32768
PIECE = struct.Struct("<IHB")
"""Checksum, length and kind of a piece, before its content."""
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def records_in(path: Path) -> Iterator[Any]:
    """The records of the file in order, as far as it was written."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  (made when imported)

    content = path.read_bytes()
    position, record = HEADER_BYTES, b""
    while position + PIECE.size <= len(content):
        rest_of_block = BLOCK_BYTES - position % BLOCK_BYTES
        if rest_of_block < PIECE.size:
            position += rest_of_block
            continue
        _, length, kind = PIECE.unpack_from(content, position)
        position += PIECE.size
        piece = content[position : position + length]
        if len(piece) < length or kind not in (WHOLE, FIRST, MIDDLE, LAST):
            return
        position += length
        record = piece if kind in (WHOLE, FIRST) else record + piece
        if kind in (WHOLE, LAST):
            yield Record.FromString(record)


def last_step_in(path: Path) -> int:
    """The last step that a row of the file's history is of; -1 where there is none."""
    steps = (record.history.step.num for record in records_in(path) if record.HasField("history"))
    return max(steps, default=-1)
