"""Whether a run is as a criterion says: yes, no, or not known (None)."""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

from normlab.core.records import Outcome
from normlab.core.run_folder import RunFolder
from normlab.report.losses import has_result
from normlab.report.records import read_all_statistics
from normlab.report.results import RunResult, SweepResult
from normlab.report.selection import select


def holds(condition: Mapping[str, Any], run: RunResult, sweep: SweepResult) -> bool | None:
    """All parts of the condition together; not known of a run without a result."""
    if not has_result(run):
        return None
    return every(_part_holds(key, wanted, run, sweep) for key, wanted in condition.items())


def every(parts: Any) -> bool | None:
    """False where one is, else None where one is not known, else True."""
    found = list(parts)
    return False if False in found else None if None in found else True


def reading(statistic: Mapping[str, Any], run: RunResult) -> float | None:
    """One number for the tags and steps of a run: NaN is no reading, an infinity is one. None without any."""
    metrics = RunFolder(run.folder).metrics
    size = metrics.stat().st_size if metrics.is_file() else 0
    bounds = statistic.get("from_step", 1), statistic.get("to_step", math.inf)
    return _reading(run.folder, size, statistic["tag"], statistic["over"], *bounds)


@lru_cache(maxsize=4096)
def _reading(folder: Path, size: int, tag: str, over: str, low: float, high: float) -> float | None:
    """Read once for the size that the file of steps has: it grows while the run goes on."""
    readings = []
    for record in read_all_statistics(RunFolder(folder), remark=lambda text: None):
        if low <= record["step"] <= high:
            found = [value for name, value in record.items() if fnmatchcase(name, tag)]
            numbers = [value for value in found if isinstance(value, int | float) and not math.isnan(value)]
            readings += [max(numbers)] if numbers else []
    if not readings:
        return None
    by_name = {"max": max(readings), "min": min(readings), "first": readings[0], "last": readings[-1]}
    return float(by_name[over])


def statistic_in(statistic: Mapping[str, Any], run: RunResult, sweep: SweepResult) -> float | None:
    """The reading, divided by that of the run it is relative to where it is to be."""
    value = reading(statistic, run)
    if value is None or "relative_to" not in statistic:
        return value
    where = {"lr": run.lr, **statistic["relative_to"]} if run.lr is not None else statistic["relative_to"]
    references = [other for other in select(sweep, where) if other.seed == run.seed]
    reference = reading(statistic, references[0]) if len(references) == 1 else None
    return None if not reference else value / reference


def _part_holds(key: str, wanted: Any, run: RunResult, sweep: SweepResult) -> bool | None:
    match key:
        case "outcome":
            return {"dead": run.is_dead, "alive": not run.is_dead}.get(wanted, run.outcome == wanted)
        case "within_steps":
            return run.steps <= wanted
        case "after_steps":
            return run.steps > wanted
        case "statistic":
            value = statistic_in(wanted, run, sweep)
            return None if value is None else _is_within(value, wanted)
    return _cause_is(key.removeprefix("cause_"), wanted, run)


def _is_within(value: float, bounds: Mapping[str, Any]) -> bool:
    """An infinity is above every bound, also where there is none on its other side."""
    is_above = "above" not in bounds or value > bounds["above"]
    return is_above and ("below" not in bounds or value < bounds["below"])


def _cause_is(part: str, wanted: Any, run: RunResult) -> bool | None:
    """Not known of a NaN whose first appearance no autopsy found; a loss that left has no such cause."""
    if not run.is_dead or run.outcome == Outcome.DIVERGED:
        return False
    if run.cause is None or run.cause.kind is None:
        return None
    patterns = wanted if isinstance(wanted, list) else [wanted]
    return any(fnmatchcase(str(getattr(run.cause, part)), str(pattern)) for pattern in patterns)
