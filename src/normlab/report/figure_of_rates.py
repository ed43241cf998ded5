"""Final validation loss against the learning rate: a panel for each variant, a point for each run."""

import math
from collections.abc import Sequence
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from normlab.report.frontier import frontier
from normlab.report.losses import loss_of
from normlab.report.rate_grid import best_rate
from normlab.report.results import RunResult, SweepResult
from normlab.report.shown import MOST_PANELS, baseline_first, split
from normlab.report.style import DEAD_MARKER, dress, panels, set_rates
from normlab.report.variants import by_variant, label_of

ROW_HEIGHT, NUM_COLUMNS = 2.6, 3
POINT, MEDIAN, REFERENCE, DEAD, BEST = "#0072b2", "#000000", "#7f7f7f", "#d55e00", "#f0e442"
FRONTIER_COLOUR = "#cc79a7"
SPREAD = 0.035
"""Neighbouring seeds lie that far apart, as a part of the axis, so that none hides another."""


def rate_figures(sweep: SweepResult) -> list[Figure]:
    """None where fewer than two rates were tried."""
    rates = sorted({run.lr for run in sweep.runs if run.lr is not None and run.lr > 0})
    if len(rates) < 2:
        return []
    grouped = by_variant(sweep)
    variants = baseline_first(sweep)
    low, high = _heights(sweep.runs)
    figures = []
    for part in split(variants, MOST_PANELS):
        axes = panels(
            len(part), "Final validation loss against learning rate", row_height=ROW_HEIGHT, num_columns=NUM_COLUMNS,
            legend=_legend(is_alone=len(variants) == 1),
        )  # fmt: skip
        for panel, variant in zip(axes, part, strict=True):
            if variant != variants[0]:
                _draw_median(panel, grouped[variants[0]], REFERENCE, (0, (2, 1.5)))
            dress(panel, label_of(variant), "learning rate", "nats per token")
            set_rates(panel, rates)
            panel.set_ylim(low, high)
            _draw_runs(panel, grouped[variant], rates)
        figures.append(axes[0].figure)
    return figures


def _legend(is_alone: bool) -> list[Line2D]:
    line = Line2D([], [], color=MEDIAN, label="median of the survivors")
    handles = [
        Line2D([], [], color=POINT, marker="o", markerfacecolor="white", linestyle="", label="one run"),
        line,
        Line2D([], [], color=BEST, marker="*", markeredgecolor="black", markersize=11, linestyle="", label="best rate"),
        Line2D([], [], color=DEAD, marker=DEAD_MARKER, linestyle="", label="died (how many)"),
        Patch(facecolor="white", edgecolor=FRONTIER_COLOUR, hatch="////", label="frontier: survival ends here"),
        Line2D([], [], color=REFERENCE, linestyle=(0, (2, 1.5)), label="median of the baseline"),
    ]
    return handles[:-1] if is_alone else handles  # pyright: ignore[reportReturnType]


def _heights(runs: Sequence[RunResult]) -> tuple[float, float]:
    """Room for all losses up to the loss at initialisation, and above them for the dead."""
    losses = [loss for run in runs if (loss := loss_of(run, "final")) is not None]
    starts = [run.initial_loss for run in runs if run.initial_loss is not None and math.isfinite(run.initial_loss)]
    if not losses:
        return 0.0, 1.0
    low, high = min(losses), max(losses)
    if starts:
        high = min(high, max(median(starts), low))
    room = max(high - low, 0.02 * abs(low), 1e-6)
    return low - 0.08 * room, high + 0.3 * room


def _draw_runs(axes: Axes, runs: Sequence[RunResult], rates: Sequence[float]) -> None:
    _draw_median(axes, runs, MEDIAN, "-")
    seeds = sorted({run.seed for run in runs})
    left, right = axes.get_xlim()
    for run in runs:
        loss = loss_of(run, "final")
        if loss is not None and run.lr:
            aside = (right / left) ** (SPREAD * _place(seeds.index(run.seed), len(seeds)))
            is_beyond = loss > axes.get_ylim()[1]
            axes.plot(
                run.lr * aside, min(loss, axes.get_ylim()[1]), "^" if is_beyond else "o", color=POINT, markersize=5,
                markerfacecolor="white", zorder=4, clip_on=False,
            )  # fmt: skip
    for rate in rates:
        num_dead = sum(run.is_dead for run in runs if run.lr == rate)
        if num_dead:
            at = (rate, 0.95)
            over = axes.get_xaxis_transform()
            axes.plot(*at, DEAD_MARKER, color=DEAD, markersize=7, transform=over, zorder=5, clip_on=False)
            axes.annotate(str(num_dead), at, xycoords=over, xytext=(0, -13), textcoords="offset points", ha="center",
                          fontsize=8)  # fmt: skip
    found, best = frontier(runs), best_rate(runs)
    if found.next_dead is not None:
        axes.axvspan(found.lr or left, found.next_dead, facecolor="none", edgecolor=FRONTIER_COLOUR, hatch="////",
                     linewidth=0, alpha=0.5, zorder=1)  # fmt: skip
    losses = [] if best is None else [loss for run in runs if run.lr == best.lr and (loss := loss_of(run, "final"))]
    if best is not None and best.lr is not None and losses:
        axes.plot(best.lr, median(losses), "*", color=BEST, markeredgecolor="black", markersize=15, zorder=3)


def _place(index: int, num: int) -> float:
    """Seeds about the middle: -1, 0 and 1 of three; at most that far apart however many."""
    return (2 * index - (num - 1)) / 2 * min(1.0, 2 / max(num - 1, 1))


def _draw_median(axes: Axes, runs: Sequence[RunResult], colour: str, dashes: object) -> None:
    losses: dict[float, list[float]] = {}
    for run in runs:
        loss = loss_of(run, "final")
        if loss is not None and run.lr is not None:
            losses.setdefault(run.lr, []).append(loss)
    rates = sorted(losses)
    medians = [median(losses[rate]) for rate in rates]
    axes.plot(rates, medians, ".", color=colour, linestyle=dashes, linewidth=1.4, markersize=4, zorder=2)
