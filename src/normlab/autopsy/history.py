"""The statistics of a run, one series each, from its records."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from normlab.autopsy.story import History, Series
from normlab.core.records import decode_number

NO_STATISTICS = ("step", "tokens", "seconds", "notes")


def history_from(records: Iterable[Mapping[str, Any]]) -> History:
    """Of records as metrics.jsonl has them; where two are of the same step, the later one adds to and replaces."""
    values: dict[str, dict[int, float]] = {}
    for record in records:
        for tag, value in record.items():
            if tag not in NO_STATISTICS:
                values.setdefault(tag, {})[record["step"]] = decode_number(value)
    return {tag: _series(by_step) for tag, by_step in values.items()}


def _series(by_step: Mapping[int, float]) -> Series:
    steps = sorted(by_step)
    return Series(np.array(steps, dtype=np.int64), np.array([by_step[step] for step in steps], dtype=np.float64))
