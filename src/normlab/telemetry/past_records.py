"""The steps that a run has taken already, for a sink that begins late or has missed some."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from normlab.core.records import StepRecord, decode_number
from normlab.core.run_folder import RunFolder

FIELDS = tuple(field.name for field in fields(StepRecord) if field.name != "telemetry")
AS_WRITTEN = ("step", "tokens", "notes")


def past_records(folder: Path, *, after: int, before: int) -> Iterator[StepRecord]:
    """The records in metrics.jsonl of the steps between the two, both left out."""
    for record in RunFolder(folder).read_metrics():
        if after < record["step"] < before:
            decoded = {name: value if name in AS_WRITTEN else decode_number(value) for name, value in record.items()}
            own = {name: decoded.pop(name) for name in FIELDS if name in decoded}
            yield StepRecord(**{**own, "notes": tuple(own.get("notes", ()))}, telemetry=decoded)
