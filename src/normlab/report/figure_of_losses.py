"""Final validation loss of every variant at its own best rate: each seed a point, the mean and its interval."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from normlab.report.intervals import Mean, losses_by_seed, mean_of
from normlab.report.results import SweepResult
from normlab.report.shown import at_best_rate, baseline_first, best_arms, split
from normlab.report.style import dress, panels, wrapped
from normlab.report.variants import baseline_of, label_of

HEIGHT_OF_ROW, HEIGHT_OF_REST, MOST_ROWS = 0.5, 0.9, 24
POINT, REFERENCE = "#0072b2", "0.5"
REFERENCE_DASHES = (0, (2, 1.5))
LABEL_WIDTH = 44
WIDEST_MARGIN = 0.3
"""Of the range of the losses; an interval that is wider is cut."""


def loss_figures(sweep: SweepResult) -> list[Figure]:
    """None where fewer than two variants have a loss."""
    arms, baseline = best_arms(sweep), baseline_of(sweep)
    losses = {variant: list(losses_by_seed(arms[variant], "final").values()) for variant in baseline_first(sweep)}
    means = {variant: mean for variant, of in losses.items() if (mean := mean_of(of)) is not None}
    if len(means) < 2:
        return []
    reference = means[baseline].value if baseline in means else None
    limits = _limits([loss for of in losses.values() for loss in of], list(means.values()))
    figures = []
    for part in split(list(means), MOST_ROWS):
        height = HEIGHT_OF_ROW * len(part) + HEIGHT_OF_REST
        (axes,) = panels(1, f"Final validation loss of each variant{at_best_rate(sweep)}", row_height=height,
                         num_columns=1, legend=_legend(reference))  # fmt: skip
        dress(axes, "", "nats per token", "")
        axes.set_xlim(*limits)
        axes.set_ylim(len(part) - 0.4, -0.6)
        names = [label_of(variant, arms[variant][0].lr) for variant in part]
        axes.set_yticks(range(len(part)), [wrapped(name, LABEL_WIDTH, 3) for name in names], fontsize=8)
        if reference is not None:
            axes.axvline(reference, color=REFERENCE, linestyle=REFERENCE_DASHES, zorder=1)
        for row, variant in enumerate(part):
            _draw(axes, row, losses[variant], means[variant])
        figures.append(axes.figure)
    return figures


def _legend(reference: float | None) -> list[Line2D]:
    handles = [
        Line2D([], [], color=POINT, marker="o", markerfacecolor="white", linestyle="", label="one seed"),
        Line2D([], [], color="black", marker="D", markersize=5, label="mean and 95 % interval"),
        Line2D([], [], color=REFERENCE, linestyle=REFERENCE_DASHES, label="mean of the baseline"),
    ]
    return handles if reference is not None else handles[:-1]


def _limits(every: Sequence[float], means: Sequence[Mean]) -> tuple[float, float]:
    """Room for every loss and, up to the widest margin, for the intervals."""
    margin = max(WIDEST_MARGIN * (max(every) - min(every)), 1e-3 * max(every))
    bounds = [bound for mean in means for bound in (mean.low, mean.high) if bound is not None]
    low, high = max(min([*every, *bounds]), min(every) - margin), min(max([*every, *bounds]), max(every) + margin)
    room = max(0.05 * (high - low), 1e-3 * abs(high), 1e-6)
    return low - room, high + room


def _draw(axes: Axes, row: int, losses: Sequence[float], mean: Mean) -> None:
    """An arrow head where the interval goes on beyond the panel."""
    left, right = axes.get_xlim()
    axes.plot(losses, [row + 0.22] * len(losses), "o", color=POINT, markersize=5, markerfacecolor="white", zorder=3)
    axes.plot(mean.value, row, "D", color="black", markersize=5, zorder=4)
    if mean.low is not None and mean.high is not None:
        axes.plot([max(mean.low, left), min(mean.high, right)], [row, row], color="black", linewidth=1.5, zorder=2)
        for marker, edge, is_beyond in (("<", left, mean.low < left), (">", right, mean.high > right)):
            if is_beyond:
                axes.plot(edge, row, marker, color="black", clip_on=False)
