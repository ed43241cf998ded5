"""Learning curves: training and validation loss against steps, tokens and seconds, each variant at its best rate."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from normlab.report.histories import Array, RunHistory, along, last_finite, summarised
from normlab.report.results import RunResult, SweepResult
from normlab.report.shown import at_best_rate, best_arms, distinct_variants, drawn_together
from normlab.report.style import (
    CHARACTERS_OF_LEGEND,
    DEAD_MARKER,
    MOST_LINES,
    LineStyle,
    dress,
    line_style,
    panels,
    set_counts,
    set_log_heights,
    wrapped,
)
from normlab.report.variants import label_of

Histories = Mapping[Path, RunHistory]
ROW_HEIGHT, NUM_COLUMNS = 2.9, 3
NAMES = {"train_loss": "training loss", "val_loss": "validation loss"}
AXES = {"steps": "step", "tokens": "tokens", "seconds": "seconds"}
MOST_POINTS, MOST_MARKERS = 120, 8
FEW_POINTS = 15
BEYOND_START = 1.3
"""Losses up to that many times the largest one at initialisation are shown."""


def curve_figures(sweep: SweepResult, histories: Histories) -> list[Figure]:
    """None where no step was taken."""
    arms = best_arms(sweep)
    limits = {loss: _heights([histories[run.folder] for runs in arms.values() for run in runs], loss) for loss in NAMES}
    losses = [loss for loss in NAMES if limits[loss] is not None]
    figures = []
    for part in drawn_together(distinct_variants(sweep), MOST_LINES) if losses else []:
        styles = {variant: line_style(place) for place, variant in enumerate(part)}
        labels = {variant: label_of(variant, arms[variant][0].lr) for variant in part}
        legend = [style.handle(wrapped(labels[variant], CHARACTERS_OF_LEGEND, 2)) for variant, style in styles.items()]
        axes = panels(
            len(losses) * len(AXES), f"Learning curves of each variant{at_best_rate(sweep)}",
            row_height=ROW_HEIGHT, num_columns=NUM_COLUMNS, legend=[*legend, dead_handle()],
        )  # fmt: skip
        for index, panel in enumerate(axes):
            loss, axis = losses[index // len(AXES)], list(AXES)[index % len(AXES)]
            dress(panel, "", AXES[axis], f"{NAMES[loss]}, nats per token" if axis == "steps" else "")
            end = max(_end(histories[run.folder], axis) for variant in part for run in arms[variant])
            set_counts(panel, end or 1.0)
            low, high = limits[loss] or (1.0, 10.0)
            set_log_heights(panel, low, high)
            for variant, style in styles.items():
                draw_arm(panel, [histories[run.folder] for run in arms[variant]], loss, axis, style)
                mark_deaths(panel, arms[variant], histories, loss, axis, style)
        figures.append(axes[0].figure)
    return figures


def draw_arm(axes: Axes, runs: Sequence[RunHistory], name: str, axis: str, style: LineStyle) -> None:
    """Median and range over seeds. Where seeds took different times, at the median of these."""
    summary = summarised([{**run.losses, **run.largest}[name] for run in runs], MOST_POINTS)
    if not len(summary.steps):
        return
    places = np.stack([along(run, axis, summary.steps) for run in runs])
    known = np.isfinite(places).any(axis=0)
    at = np.nanmedian(places[:, known], axis=0)
    low, median, high = (_positive(values[known]) for values in (summary.low, summary.median, summary.high))
    few = len(at) <= FEW_POINTS
    axes.fill_between(at, low, high, color=style.colour, alpha=0.15, linewidth=0, zorder=1)
    axes.plot(at, median, color=style.colour, linestyle=style.dashes, linewidth=1.5, marker=style.marker, markersize=4,
              markevery=1 if few else len(at) // MOST_MARKERS, zorder=2)  # fmt: skip


def mark_deaths(
    axes: Axes, runs: Sequence[RunResult], histories: Histories, name: str, axis: str, style: LineStyle
) -> None:
    """A cross at the last finite reading of each run that died, at the edge where that lies beyond it."""
    low, high = axes.get_ylim()
    for run in runs:
        history = histories[run.folder]
        last = last_finite({**history.losses, **history.largest}[name]) if run.is_dead else None
        if last is not None:
            at = along(history, axis, np.array([last[0]]))
            axes.plot(at, min(max(last[1], low), high), DEAD_MARKER, color=style.colour, markeredgecolor="white",
                      markersize=9, zorder=5, clip_on=False)  # fmt: skip


def dead_handle() -> Line2D:
    """The legend's sample of such a cross."""
    return Line2D([], [], color="black", marker=DEAD_MARKER, markersize=9, markeredgecolor="white", linestyle="",
                  label="last reading of a run that died")  # fmt: skip


def _heights(histories: Sequence[RunHistory], loss: str) -> tuple[float, float] | None:
    readings = [history.losses[loss].values for history in histories]
    finite = [float(value) for values in readings for value in values if math.isfinite(value) and value > 0]
    if not finite:
        return None
    starts = [float(history.losses["train_loss"].values[0]) for history in histories if len(history.steps)]
    known = [start for start in starts if math.isfinite(start)]
    high = min(max(finite), BEYOND_START * max(known)) if known else max(finite)
    low = min(finite)
    margin = max((high / low) ** 0.05, 1.02)
    return low / margin, max(high, low) * margin


def _end(history: RunHistory, axis: str) -> float:
    places = getattr(history, axis)
    return float(np.nanmax(places)) if len(places) and np.isfinite(places).any() else 0.0


def _positive(values: Array) -> Array:
    """What a logarithmic axis can show."""
    return np.where(values > 0, values, math.nan)
