"""Final validation loss of every variant at its own best rate: each seed a point, the mean and its interval."""

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from normlab.report.intervals import loss_at_best_rate, losses_by_seed, mean_of
from normlab.report.results import SweepResult
from normlab.report.shown import baseline_first, best_arms, split
from normlab.report.style import dress, panels, wrapped
from normlab.report.variants import by_variant, label_of

HEIGHT_OF_ROW, HEIGHT_OF_REST, MOST_ROWS = 0.5, 0.9, 24
POINT = "#0072b2"
LABEL_WIDTH = 44
WIDEST_MARGIN = 0.3
"""Of the range of the losses; an interval that is wider is cut."""


def loss_figures(sweep: SweepResult) -> list[Figure]:
    """None where fewer than two variants have a loss."""
    arms, grouped = best_arms(sweep), by_variant(sweep)
    losses = {variant: losses_by_seed(arms[variant], "final") for variant in baseline_first(sweep)}
    shown = [variant for variant, of in losses.items() if of]
    if len(shown) < 2:
        return []
    legend = [
        Line2D([], [], color=POINT, marker="o", markerfacecolor="white", linestyle="", label="one seed"),
        Line2D([], [], color="black", marker="D", markersize=5, label="mean and 95 % interval"),
        Line2D([], [], color="0.5", linestyle=(0, (2, 1.5)), label="mean of the baseline"),
    ]
    every = [loss for of in losses.values() for loss in of.values()]
    margin = max(WIDEST_MARGIN * (max(every) - min(every)), 1e-3 * max(every))
    means = [mean for of in losses.values() if (mean := mean_of(list(of.values()))) is not None]
    bounds = [bound for mean in means for bound in (mean.low, mean.high) if bound is not None]
    low, high = max(min([*every, *bounds]), min(every) - margin), min(max([*every, *bounds]), max(every) + margin)
    room = max(0.05 * (high - low), 1e-3 * abs(high), 1e-6)
    figures = []
    for part in split(shown, MOST_ROWS):
        height = HEIGHT_OF_ROW * len(part) + HEIGHT_OF_REST
        (axes,) = panels(1, "Final validation loss, each variant at its own best learning rate", row_height=height,
                         num_columns=1, legend=legend)  # fmt: skip
        for row, variant in enumerate(part):
            found = loss_at_best_rate(grouped[variant])
            mean = None if found is None else found.final
            assert mean is not None
            for loss in losses[variant].values():
                axes.plot(loss, row + 0.22, "o", color=POINT, markersize=5, markerfacecolor="white", zorder=3)
            axes.plot(mean.value, row, "D", color="black", markersize=5, zorder=4)
            if mean.low is not None and mean.high is not None:
                axes.plot([mean.low, mean.high], [row, row], color="black", linewidth=1.5, zorder=2)
            if variant == shown[0]:
                axes.axvline(mean.value, color="0.5", linestyle=(0, (2, 1.5)), zorder=1)
        dress(axes, "", "nats per token", "")
        names = [label_of(variant, arms[variant][0].lr) for variant in part]
        axes.set_yticks(range(len(part)), [wrapped(name, LABEL_WIDTH, 3) for name in names], fontsize=8)
        axes.set_ylim(len(part) - 0.4, -0.6)
        axes.set_xlim(low - room, high + room)
        figures.append(axes.figure)
    return figures
