"""What all figures of a sweep have in common: size, how lines are told apart, labels that fit, and legends.

Lines differ by marker and by dashes as well as by colour, so that they can be told apart in grey print and by the
colour-blind (colours of Okabe and Ito 2008, black for the baseline).
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from normlab.telemetry.figure_style import log_ticks
from normlab.telemetry.number_text import short_exponent

WIDTH, DOTS_PER_INCH = 10.0, 100
TITLE_HEIGHT, LEGEND_LINE_HEIGHT, LEGEND_PADDING = 0.45, 0.19, 0.22
"""In inches."""
COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f")
MARKERS = ("o", "s", "^", "D", "v", "P", "<", ">")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 2, 1.5, 2)))
MOST_LINES = len(COLOURS)
GRID = "0.9"
DEAD_MARKER = "X"
CHARACTERS_OF_FIGURE, CHARACTERS_OF_LEGEND = 99, 56
MOST_TITLE_LINES = 3
MOST_RATES = 6
"""So many ticks of a panel lie apart where their rates do."""


@dataclass(frozen=True)
class LineStyle:
    """How one of several lines looks."""

    colour: str
    marker: str
    dashes: Any

    def handle(self, label: str) -> Line2D:
        """A sample for a legend."""
        return Line2D([], [], color=self.colour, marker=self.marker, linestyle=self.dashes, markersize=5, label=label)


def line_style(place: int) -> LineStyle:
    """The style of the line at a place, 0 being the baseline's."""
    return LineStyle(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)])


def rate_styles(num: int) -> list[LineStyle]:
    """Styles of rates in rising order: darker is larger."""
    colours = matplotlib.colormaps["viridis"](np.linspace(0.85, 0.0, num))
    return [
        LineStyle(to_hex(colour), MARKERS[place % len(MARKERS)], DASHES[place % len(DASHES)])
        for place, colour in enumerate(colours)
    ]


def new_figure(height: float) -> Figure:
    """An empty figure of the common width whose axes make room for their labels. Matplotlib without pyplot."""
    figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def panels(num: int, title: str, *, row_height: float, num_columns: int, legend: Sequence[Line2D]) -> list[Axes]:
    """Axes of a new figure, row by row, under a title and over a legend."""
    rows = math.ceil(num / num_columns)
    columns = math.ceil(num / rows)
    legend_columns, legend_height = legend_size(legend)
    figure = new_figure(TITLE_HEIGHT + rows * row_height + legend_height)
    figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    grid = figure.subplots(rows, columns, squeeze=False)
    axes = list(grid.flat)
    for unused in axes[num:]:
        unused.remove()
    if legend:
        figure.legend(handles=list(legend), loc="outside lower left", ncols=legend_columns, fontsize=9, frameon=False)
    return axes[:num]


def legend_size(handles: Sequence[Line2D]) -> tuple[int, float]:
    """Columns, and height in inches, in which these labels fit below each other."""
    if not handles:
        return 1, 0.0
    labels = [str(handle.get_label()) for handle in handles]
    longest = max(len(line) for label in labels for line in label.splitlines())
    columns = max(1, min(4, len(labels), 130 // (longest + 8)))
    lines = max(label.count("\n") + 1 for label in labels)
    return columns, LEGEND_PADDING + LEGEND_LINE_HEIGHT * lines * math.ceil(len(labels) / columns)


def dress(axes: Axes, title: str, x_label: str, y_label: str) -> None:
    """Title, labels and a grid under all that is drawn."""
    place = axes.get_subplotspec()
    columns = 1 if place is None else place.get_gridspec().ncols
    axes.set_title(wrapped(title, CHARACTERS_OF_FIGURE // columns, MOST_TITLE_LINES), fontsize=9, loc="left")
    axes.set_xlabel(x_label, fontsize=9)
    axes.set_ylabel(y_label, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def wrapped(text: str, width: int, most_lines: int) -> str:
    """The text in lines of at most that many characters, its end left out where it needs more lines."""
    text = escaped(text)
    return "\n".join(textwrap.wrap(text, width, max_lines=most_lines, placeholder=" …", break_long_words=True))


def escaped(text: str) -> str:
    """A text that matplotlib draws as it is: a pair of dollar signs would begin a formula."""
    return text.replace("$", r"\$")


def set_rates(axes: Axes, rates: Sequence[float]) -> None:
    """A logarithmic axis of learning rates, wider than they are by a margin on both sides."""
    low, high = min(rates), max(rates)
    margin = max((high / low) ** 0.08, 1.25)
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    tried = sorted(set(rates))
    apart = all(np.log(b / a) >= np.log(high / low) / MOST_RATES for a, b in pairwise(tried))
    set_ticks(axes.xaxis, tried if apart else thinned(list(log_ticks(low / margin, high * margin)), 5))


def set_log_heights(axes: Axes, low: float, high: float) -> None:
    """A logarithmic vertical axis with few and round ticks."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    set_ticks(axes.yaxis, thinned(list(log_ticks(low, high)), 7))


def set_counts(axes: Axes, high: float, num_ticks: int = 5) -> None:
    """A horizontal axis of a count from 0, with short numbers: 2,000, or 1.5M."""
    axes.set_xlim(0, high * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(num_ticks, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_count(value)))


def set_ticks(axis: Any, ticks: Sequence[float]) -> None:
    """These ticks and no smaller ones."""
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: short_exponent(f"{value:.3g}")))
    axis.set_minor_locator(NullLocator())


def thinned(ticks: Sequence[float], most: int) -> list[float]:
    """Every so many of the ticks, so that they are not too many."""
    every = max(1, math.ceil(len(ticks) / most))
    return list(ticks)[::every]


def short_count(value: float) -> str:
    """``2,000``, ``1.5M``."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g}{letter}"
    return f"{value:,g}"
