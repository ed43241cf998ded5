"""A heat map over two of the axes that a sweep varied: median final validation loss, and the share that died.

A death counts as the loss at initialisation, so that a cell does not look better for those who left it.
"""

import math
from collections.abc import Sequence
from itertools import combinations
from statistics import median

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from normlab.report.losses import capped_loss, has_result
from normlab.report.results import RunResult, SweepResult
from normlab.report.style import new_figure, wrapped
from normlab.report.variants import rate_place, short_key

RATE, SEED = "lr", "seed"
MOST_VALUES = 14
HEIGHT_OF_ROW, HEIGHT_OF_REST = 0.5, 1.5
NO_LOSS = "#d9d9d9"
LABEL_WIDTH = 22
COLOURS = matplotlib.colormaps["viridis_r"]
DARK = 0.45


def pairs_of_axes(sweep: SweepResult) -> list[tuple[str, str]]:
    """Every two axes with several values, few enough to be read; those with the rate first, none with the seed."""
    axes = [axis for axis in (*sweep.varied, RATE) if 1 < len(axis_values(sweep, axis)) <= MOST_VALUES]
    return sorted(combinations(axes, 2), key=lambda pair: RATE not in pair)


def heat_map(sweep: SweepResult, rows: str, columns: str) -> Figure:
    """Over all runs that have a result: a cell pools what the sweep varied besides."""
    values = [axis_values(sweep, axis) for axis in (rows, columns)]
    cells = {
        (row, column): [
            run
            for run in sweep.runs
            if value_on(run, rows) == row and value_on(run, columns) == column and has_result(run)
        ]
        for row in values[0]
        for column in values[1]
    }
    figure = new_figure(HEIGHT_OF_REST + HEIGHT_OF_ROW * len(values[0]))
    title = f"Median final validation loss (nats per token) by {axis_name(rows)} and {axis_name(columns)}"
    figure.suptitle(wrapped(title, 100, 2), fontsize=12, x=0.01, ha="left")
    axes = figure.subplots()
    medians = np.array([[_median(cells[row, column]) for column in values[1]] for row in values[0]])
    norm = _norm(medians)
    axes.imshow(medians, cmap=COLOURS.with_extremes(bad=NO_LOSS), norm=norm, aspect="auto", interpolation="none")
    for (row, column), value in np.ndenumerate(medians):
        runs = cells[values[0][row], values[1][column]]
        is_dark = math.isfinite(value) and float(norm(value)) > DARK
        _write(axes, column, row, value, runs, "white" if is_dark else "black", len(values[1]))
    _name_axes(axes, rows, columns, values)
    return figure


def axis_values(sweep: SweepResult, axis: str) -> list[str]:
    """The values on an axis: choices in the order of the command line, rates and seeds rising."""
    if axis in sweep.varied:
        tried = {run.choices.get(axis) for run in sweep.runs}
        return [value for value in sweep.varied[axis] if value in tried]
    if axis == SEED:
        return [str(seed) for seed in sorted({run.seed for run in sweep.runs})]
    return [f"{rate:g}" for rate in sorted({run.lr for run in sweep.runs}, key=rate_place) if rate is not None]


def value_on(run: RunResult, axis: str) -> str | None:
    """The run's value on an axis."""
    if axis == RATE and axis not in run.choices:
        return None if run.lr is None else f"{run.lr:g}"
    return str(run.seed) if axis == SEED and axis not in run.choices else run.choices.get(axis)


def _median(runs: Sequence[RunResult]) -> float:
    """NaN where all died."""
    losses = [loss for run in runs if (loss := capped_loss(run)) is not None]
    return median(losses) if losses and not all(run.is_dead for run in runs) else math.nan


def _norm(medians: np.ndarray) -> Normalize:
    finite = medians[np.isfinite(medians)]
    if not len(finite):
        return Normalize(0, 1)
    low, high = float(finite.min()), float(finite.max())
    return Normalize(low, high if high > low else low + 1)


def _write(axes: Axes, x: int, y: int, value: float, runs: Sequence[RunResult], colour: str, num_columns: int) -> None:
    """The loss, and below it how many died of how many."""
    num_dead = sum(run.is_dead for run in runs)
    lines = [f"{value:.4g}"] if math.isfinite(value) else []
    if num_dead:
        share = f"{num_dead}/{len(runs)}"
        lines.append(f"{share} died" if num_columns <= 9 else f"{share} †")
    text = "\n".join(lines) if runs else "no result"
    axes.text(x, y, text, ha="center", va="center", color=colour, fontsize=8 if num_columns > 7 else 9)


def _name_axes(axes: Axes, rows: str, columns: str, values: Sequence[Sequence[str]]) -> None:
    axes.set_ylabel(wrapped(axis_name(rows), 40, 1), fontsize=9)
    axes.set_xlabel(wrapped(axis_name(columns), 40, 1), fontsize=9)
    width = max(6, 90 // max(len(values[1]), 1))
    axes.set_yticks(range(len(values[0])), [wrapped(value, LABEL_WIDTH, 2) for value in values[0]], fontsize=8)
    axes.set_xticks(range(len(values[1])), [wrapped(value, width, 3) for value in values[1]], fontsize=8)
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.set_xticks(np.arange(len(values[1]) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(values[0]) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="minor", length=0)


def axis_name(axis: str) -> str:
    """What to call it beside the axis and in the caption."""
    return "learning rate" if axis == RATE else short_key(axis)
