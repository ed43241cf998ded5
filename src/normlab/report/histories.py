"""What the curves of a sweep are drawn from: the readings of each run over its steps."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from normlab.core.run_folder import RunFolder
from normlab.report.records import read_all_statistics
from normlab.report.results import RunResult

Array = NDArray[np.float64]
LOSSES = ("train_loss", "val_loss")
ACTIVATIONS, ATTENTION_LOGITS = "activation_rms", "attention_logit_max"


@dataclass(frozen=True)
class Series:
    """Readings in order of their steps; NaN where a reading is not finite."""

    steps: Array
    values: Array


@dataclass(frozen=True)
class RunHistory:
    """All that is drawn of one run; ``tokens`` and ``seconds`` are of the steps in ``steps``.

    ``largest`` gives, for ``activation_rms`` and ``attention_logit_max``, the largest reading of a step over all
    places, layers and heads. It is NaN where one of them is not finite.
    """

    steps: Array
    tokens: Array
    seconds: Array
    losses: Mapping[str, Series]
    largest: Mapping[str, Series]


@dataclass(frozen=True)
class Summary:
    """Several runs at the steps at which any of them has a finite reading: median and range.

    A run counts from its first reading to its last, between two on the straight line that joins them: what one run was
    read at alone, as before its death, does not stand for all.
    """

    steps: Array
    median: Array
    low: Array
    high: Array


def read_histories(runs: Sequence[RunResult]) -> dict[Path, RunHistory]:
    """By run folder, each read once however many names it has. Damage is remarked upon where the runs are read."""
    return {folder: read_history(folder) for folder in dict.fromkeys(run.folder for run in runs)}


def read_history(folder: Path) -> RunHistory:
    """One run's."""
    records = read_all_statistics(RunFolder(folder), remark=lambda text: None)
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in (*LOSSES, ACTIVATIONS, ATTENTION_LOGITS)}
    for record in records:
        for name in LOSSES:
            if name in record:
                found[name].append((record["step"], _number(record[name])))
        for name in (ACTIVATIONS, ATTENTION_LOGITS):
            readings = [_number(value) for tag, value in record.items() if tag.startswith(f"{name}/")]
            if readings:
                found[name].append((record["step"], float(np.max(readings))))
    series = {name: _series(pairs) for name, pairs in found.items()}
    return RunHistory(
        steps=_column([record["step"] for record in records]),
        tokens=_column([record.get("tokens") for record in records]),
        seconds=_column([record.get("seconds") for record in records]),
        losses={name: series[name] for name in LOSSES},
        largest={name: series[name] for name in (ACTIVATIONS, ATTENTION_LOGITS)},
    )


def summarised(series: Sequence[Series], num_columns: int) -> Summary:
    """Median and range over runs. More steps than columns are merged, each run's readings to their mean first."""
    every = sorted({step for one in series for step in one.steps[np.isfinite(one.values)].tolist()})
    if not every:
        empty = np.zeros(0)
        return Summary(empty, empty, empty, empty)
    edges = np.linspace(every[0], every[-1], num_columns + 1) if len(every) > num_columns else None
    table = np.stack([_binned(one, edges) if edges is not None else _at(one, every) for one in series])
    kept = np.isfinite(table).any(axis=0)
    steps = (np.array(every) if edges is None else edges[1:])[kept]
    table = np.stack([_joined(steps, row) for row in table[:, kept]])
    return Summary(steps, np.nanmedian(table, axis=0), np.nanmin(table, axis=0), np.nanmax(table, axis=0))


def along(history: RunHistory, axis: str, steps: Array) -> Array:
    """Where these steps lie on an axis of ``steps``, ``tokens`` or ``seconds``; NaN beyond the run's last one."""
    if axis == "steps" or not len(history.steps):
        return steps if axis == "steps" else np.full(len(steps), math.nan)
    places = getattr(history, axis)
    return np.interp(steps, history.steps, places, right=math.nan)


def last_finite(series: Series) -> tuple[float, float] | None:
    """Step and value of the last finite reading."""
    (finite,) = np.nonzero(np.isfinite(series.values))
    return None if not len(finite) else (float(series.steps[finite[-1]]), float(series.values[finite[-1]]))


def _binned(series: Series, edges: Array) -> Array:
    finite = np.isfinite(series.values)
    steps, values = series.steps[finite], series.values[finite]
    bins = np.clip(np.searchsorted(edges, steps, side="left") - 1, 0, len(edges) - 2)
    counts = np.bincount(bins, minlength=len(edges) - 1)
    sums = np.bincount(bins, weights=values, minlength=len(edges) - 1)
    return np.divide(sums, counts, out=np.full(len(counts), math.nan), where=counts > 0)


def _at(series: Series, steps: Sequence[float]) -> Array:
    known = dict(zip(series.steps.tolist(), series.values.tolist(), strict=True))
    return np.array([known.get(step, math.nan) for step in steps])


def _joined(steps: Array, values: Array) -> Array:
    """Gaps between readings bridged."""
    (known,) = np.nonzero(np.isfinite(values))
    return np.interp(steps, steps[known], values[known], left=math.nan, right=math.nan) if len(known) else values


def _series(pairs: Sequence[tuple[int, float]]) -> Series:
    steps, values = _column([step for step, _ in pairs]), _column([value for _, value in pairs])
    values[~np.isfinite(values)] = math.nan
    return Series(steps, values)


def _column(values: Sequence[object]) -> Array:
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
