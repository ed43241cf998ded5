"""How long runs stay alive: Kaplan-Meier curves, a panel for each variant."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from normlab.report.results import RunResult, SweepResult
from normlab.report.shown import MOST_PANELS, baseline_first, split
from normlab.report.style import MOST_LINES, LineStyle, dress, panels, rate_styles, set_counts
from normlab.report.survival import SurvivalCurve, survival_curve
from normlab.report.variants import by_variant, label_of, rate_place

ROW_HEIGHT, NUM_COLUMNS = 2.5, 3
OWN = LineStyle("#000000", "", "-")
REFERENCE = LineStyle("#7f7f7f", "", (0, (2, 1.5)))
BAND, CENSORED_MARKER = "0.85", "|"


def survival_figures(sweep: SweepResult) -> list[Figure]:
    """All rates of a variant together, with the interval; the baseline's curve in each panel."""
    grouped = by_variant(sweep)
    variants = baseline_first(sweep)
    reference = survival_curve(grouped[variants[0]]) if variants else None
    legend = [
        OWN.handle("runs of the variant, all rates"),
        Line2D([], [], color=BAND, linewidth=8, label="95 % interval"),
        Line2D(
            [], [], color="black", marker=CENSORED_MARKER, linestyle="", markersize=9, label="ended alive, or goes on"
        ),
        REFERENCE.handle("the baseline"),
    ]
    figures = []
    for part in split(variants, MOST_PANELS):
        shown = legend if len(variants) > 1 else legend[:3]
        axes = panels(len(part), "Runs alive", row_height=ROW_HEIGHT, num_columns=NUM_COLUMNS, legend=shown)
        for panel, variant in zip(axes, part, strict=True):
            curve = survival_curve(grouped[variant])
            end = _end(sweep)
            if reference is not None and variant != variants[0]:
                _draw(panel, reference, REFERENCE, end)
            _draw(panel, curve, OWN, end)
            panel.fill_between(*_extended(curve, end), step="post", color=BAND, linewidth=0, zorder=1)
            _draw_censored(panel, curve, OWN)
            said = f"{curve.num_dead} of {curve.num_runs} died"
            panel.text(0.03, 0.05, said, transform=panel.transAxes, fontsize=8, zorder=5)
            _finish(panel, label_of(variant), end)
        figures.append(axes[0].figure)
    return figures


def survival_by_rate_figures(sweep: SweepResult) -> list[Figure]:
    """A curve for each rate; none where there are too many of them to tell apart, or one."""
    grouped = by_variant(sweep)
    rates = sorted({run.lr for run in sweep.runs}, key=rate_place)
    if not 1 < len(rates) <= MOST_LINES or None in rates:
        return []
    styles = dict(zip(rates, rate_styles(len(rates)), strict=True))
    legend = [style.handle(f"learning rate {rate:g}") for rate, style in styles.items()]
    figures = []
    for part in split(baseline_first(sweep), MOST_PANELS):
        axes = panels(
            len(part), "Runs alive, by learning rate", row_height=ROW_HEIGHT, num_columns=NUM_COLUMNS, legend=legend
        )
        for panel, variant in zip(axes, part, strict=True):
            _draw_rates(panel, grouped[variant], styles, _end(sweep))
            _finish(panel, label_of(variant), _end(sweep))
        figures.append(axes[0].figure)
    return figures


def _draw_rates(axes: Axes, runs: Sequence[RunResult], styles: dict[float | None, LineStyle], end: int) -> None:
    for place, (rate, style) in enumerate(styles.items()):
        at_rate = [run for run in runs if run.lr == rate]
        if at_rate:
            curve = survival_curve(at_rate)
            _draw(axes, curve, style, end)
            mark = _last_death(curve) if curve.num_dead else (0.04 * (1 + place) * end, 1.0)
            axes.plot(*mark, color=style.colour, marker=style.marker, markersize=4 + 1.5 * (len(styles) - place),
                      zorder=4, clip_on=False)  # fmt: skip


def _last_death(curve: SurvivalCurve) -> tuple[int, float]:
    """Where the curve comes down for the last time."""
    last = max(place for place in range(1, len(curve.alive)) if curve.alive[place] < curve.alive[place - 1])
    return curve.steps[last], curve.alive[last]


def _draw(axes: Axes, curve: SurvivalCurve, style: LineStyle, end: int) -> None:
    steps, alive, _ = _extended(curve, end, of_line=True)
    axes.step(steps, alive, where="post", color=style.colour, linestyle=style.dashes, linewidth=1.5, zorder=3)


def _draw_censored(axes: Axes, curve: SurvivalCurve, style: LineStyle) -> None:
    for step in curve.censored:
        alive = [share for start, share in zip(curve.steps, curve.alive, strict=True) if start <= step][-1]
        axes.plot(step, alive, CENSORED_MARKER, color=style.colour, markersize=9, zorder=4, clip_on=False)


def _extended(curve: SurvivalCurve, end: int, of_line: bool = False) -> tuple[list[float], list[float], list[float]]:
    """Up to the last step under observation, which is the last one planned where all have died."""
    last = end if curve.num_dead == curve.num_runs else max([*curve.censored, *curve.steps])
    steps = [*curve.steps, max(last, curve.steps[-1])]
    low, high = (curve.alive, curve.alive) if of_line else (curve.low, curve.high)
    return [float(step) for step in steps], [*low, low[-1]], [*high, high[-1]]


def _end(sweep: SweepResult) -> int:
    return max(max(run.planned_steps, run.steps) for run in sweep.runs)


def _finish(axes: Axes, title: str, end: int) -> None:
    dress(axes, title, "step", "share alive")
    set_counts(axes, max(end, 1))
    axes.set_ylim(0, 1.06)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
