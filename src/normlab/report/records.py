"""The steps of a run, as far as they can be read."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from normlab.core.errors import CheckpointError
from normlab.core.records import decode_number
from normlab.core.run_folder import RunFolder

Record = Mapping[str, Any]


def read_records(folder: RunFolder, remark: Callable[[str], None]) -> list[Record]:
    """The records of all steps in order, named numbers decoded; up to a damaged line, which is remarked upon."""
    return list(_up_to_damage(folder.read_metrics(), remark))


def read_all_statistics(folder: RunFolder, remark: Callable[[str], None]) -> list[Record]:
    """The same, and before a death the steps that were taken again with every statistic read in place of the first."""
    by_step = {record["step"]: record for record in read_records(folder, remark)}
    for record in _up_to_damage(folder.read_recomputed_steps(), remark):
        by_step[record["step"]] = {**by_step.get(record["step"], {}), **record}
    return [by_step[step] for step in sorted(by_step)]


def _up_to_damage(records: Iterator[dict[str, Any]], remark: Callable[[str], None]) -> Iterator[Record]:
    try:
        for record in records:
            yield {key: _decoded(value) for key, value in record.items()}
    except (CheckpointError, OSError) as error:
        remark(f"{error} Until then the steps before that line are used.")


def _decoded(value: Any) -> Any:
    if isinstance(value, str):
        with suppress(ValueError):
            return decode_number(value)
    return value
