"""How a run grew towards its end: statistics by layer over the last steps, with what the story says of them.

On logarithmic scales, on which an exponential growth is a straight line.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.typing import ColorType

from normlab.autopsy.growth_panels import Panel, finite_part, panels_of
from normlab.autopsy.story import Growth, History, Series, Story
from normlab.core.records import Outcome
from normlab.telemetry.figure_history import Fatality
from normlab.telemetry.figure_of_attention import FEW_READINGS, LIGHTEST, NEAR
from normlab.telemetry.figure_style import (
    COLOURS,
    FATAL_COLOUR,
    layer_ticks,
    log_ticks,
    new_figure,
    place_labels,
    set_steps,
    tick_texts,
)
from normlab.telemetry.number_text import short_exponent

NUM_COLUMNS = 3
TITLE_HEIGHT, ROW_HEIGHT, PANEL_HEIGHT, BOTTOM_HEIGHT = 0.8, 2.7, 2.1, 0.55
"""In inches."""
LEFT, ACROSS, PANEL_WIDTH = 0.06, 0.32, 0.27
FIT_COLOUR, CROSSING_COLOUR, WITHOUT_LAYERS = "#cc79a7", "#56b4e9", "#404040"
MOST_IN_A_COLUMN = 10


def growth_figure(history: History, story: Story, outcome: Outcome) -> Figure | None:
    """A panel for the loss, the gradient, the attention logits and every site; None of a single step."""
    first_step, panels = panels_of(history, story)
    if not panels:
        return None
    num_rows = len(panels) // NUM_COLUMNS + 1  # the last cell is the legend's
    height = TITLE_HEIGHT + ROW_HEIGHT * (num_rows - 1) + PANEL_HEIGHT + BOTTOM_HEIGHT
    fatality = Fatality(story.end_step, outcome)
    figure = new_figure(height, "Growth before the end, on logarithmic scales", fatality)
    num_layers = 1 + max((layer for panel in panels for layer in panel.lines if layer is not None), default=-1)
    colours_L: list[ColorType] = [tuple(colour) for colour in COLOURS(np.linspace(0, LIGHTEST, num_layers))]
    for index, panel in enumerate(panels):
        row, column = divmod(index, NUM_COLUMNS)
        axes = figure.add_axes(_cell(row, column, num_rows, height))
        is_lowest = index + NUM_COLUMNS >= len(panels) + (len(panels) % NUM_COLUMNS == 0)
        place_labels(axes, panel.title, "step" if is_lowest else "", "")
        _draw_panel(axes, panel, first_step, story, colours_L)
        set_steps(axes, first_step, story.end_step, fatality)
    row, column = divmod(len(panels), NUM_COLUMNS)
    legend = figure.add_axes(_cell(row, column, num_rows, height))
    _explain(legend, panels, colours_L)
    return figure


def _cell(row: int, column: int, num_rows: int, height: float) -> tuple[float, float, float, float]:
    bottom = BOTTOM_HEIGHT + ROW_HEIGHT * (num_rows - 1 - row)
    return (LEFT + ACROSS * column, bottom / height, PANEL_WIDTH, PANEL_HEIGHT / height)


def _draw_panel(axes: Axes, panel: Panel, first_step: int, story: Story, colours_L: Sequence[ColorType]) -> None:
    shown = {layer: finite_part(series, first_step) for layer, series in panel.lines.items()}
    values = np.concatenate([series.values for series in shown.values()])
    low, high = float(values.min()), float(values.max())
    thresholds = [crossing.threshold for crossing in panel.crossings]
    limits = {growth.limit for growth in panel.growths if growth.limit is not None}
    near = [value for value in {*thresholds, *limits} if 0 < value <= high * NEAR and value >= low / NEAR]
    low, high = min([low, *near]), max([high, *near])
    widening = max(1.15, (2 * low / high) ** 0.5, (high / low) ** 0.06)
    low, high = low / widening, high * widening
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    ticks = log_ticks(low, high)
    axes.set_yticks(ticks, tick_texts(ticks))
    axes.minorticks_off()
    axes.grid(color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    for layer, series in shown.items():
        colour = WITHOUT_LAYERS if layer is None else colours_L[layer]
        marker = "o" if len(series.steps) <= FEW_READINGS else ""
        axes.plot(series.steps, series.values, color=colour, marker=marker, markersize=3, linewidth=1.3, zorder=2)
        _mark_not_finite(axes, panel.lines[layer], layer, colour, len(colours_L))
    for growth in panel.growths:
        _draw_fit(axes, growth, story.end_step)
    for limit in limits.intersection(near):
        _draw_limit(axes, limit, low, high)
    for crossing in panel.crossings:
        height = min(max(crossing.threshold, low), high)
        axes.plot(crossing.step, height, "v", color=CROSSING_COLOUR, markeredgecolor="black", markersize=8, zorder=6,
                  clip_on=False)  # fmt: skip


def _mark_not_finite(axes: Axes, series: Series, layer: int | None, colour: ColorType, num_layers: int) -> None:
    """A cross along the upper edge for the first value that is not finite, deeper layers higher."""
    steps = series.steps[~np.isfinite(series.values)]
    if steps.size:
        height = 0.98 if layer is None else 0.98 - 0.25 * (num_layers - 1 - layer) / max(1, num_layers - 1)
        axes.plot(steps[0], height, "x", color=colour, markersize=7, markeredgewidth=2,
                  transform=axes.get_xaxis_transform(), clip_on=False, zorder=5)  # fmt: skip


def _draw_fit(axes: Axes, growth: Growth, end_step: int) -> None:
    """The fitted curve, and on to the end; of what falls the reciprocal was fitted."""
    fit = growth.fit
    if fit is None:
        return
    steps = np.array([fit.first_step, end_step], dtype=np.float64)
    with np.errstate(over="ignore"):
        curve = fit.value_at_last * np.exp(fit.rate * (steps - fit.last_step))
    values = 1 / curve if growth.last < growth.baseline else curve
    axes.plot(steps, values, "--", color=FIT_COLOUR, linewidth=2.2, zorder=3)


def _draw_limit(axes: Axes, limit: float, low: float, high: float) -> None:
    """A dotted line; what it is stands above it, below where there is no room above."""
    axes.axhline(limit, color="black", linestyle=":", linewidth=1.3)
    is_high = np.log(limit / low) > 0.85 * np.log(high / low)
    text = short_exponent(f"limit {limit:.3g}")
    axes.annotate(text, (0.015, limit), (0, -3 if is_high else 3), ("axes fraction", "data"), "offset points",
                  fontsize=9, va="top" if is_high else "bottom")  # fmt: skip


def _explain(axes: Axes, panels: list[Panel], colours_L: Sequence[ColorType]) -> None:
    """The layers' colours and the marks that there are."""
    axes.set_axis_off()
    handles = [
        Line2D([], [], color=colours_L[layer], linewidth=3, label=f"layer {layer}")
        for layer in layer_ticks(len(colours_L))
    ] if len(colours_L) else []  # fmt: skip
    handles.append(
        Line2D([], [], color=FATAL_COLOUR, linestyle="--", linewidth=1.8, label="the step that ended the run")
    )
    if any(growth.fit is not None for panel in panels for growth in panel.growths):
        handles.append(Line2D([], [], color=FIT_COLOUR, linestyle="--", linewidth=2.2, label="exponential fit"))
    if any(panel.crossings for panel in panels):
        handles.append(Line2D([], [], color=CROSSING_COLOUR, marker="v", markeredgecolor="black", markersize=8,
                              linestyle="", label="crossed a threshold for good"))  # fmt: skip
    if any(not np.isfinite(series.values).all() for panel in panels for series in panel.lines.values()):
        handles.append(Line2D([], [], color="black", marker="x", markersize=7, markeredgewidth=2, linestyle="",
                              label="first NaN or infinite"))  # fmt: skip
    ncols = 1 if len(handles) <= MOST_IN_A_COLUMN else 2
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(-0.1, 1.02), frameon=False, fontsize=10.5,
                ncols=ncols, columnspacing=1)  # fmt: skip
