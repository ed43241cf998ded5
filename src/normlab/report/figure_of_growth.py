"""How activations and attention logits grow, arm by arm: at each variant's best rate, and at the largest rate."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from normlab.report.figure_of_curves import Histories, dead_handle, draw_arm, mark_deaths
from normlab.report.histories import ACTIVATIONS, ATTENTION_LOGITS
from normlab.report.results import SweepResult
from normlab.report.shown import Arms, best_arms, distinct_variants, drawn_together, hardest_arms, has_several_rates
from normlab.report.style import (
    CHARACTERS_OF_LEGEND,
    MOST_LINES,
    dress,
    line_style,
    panels,
    set_counts,
    set_log_heights,
    wrapped,
)
from normlab.report.variants import Variant, label_of

ROW_HEIGHT, NUM_COLUMNS = 2.9, 2
NAMES = {ACTIVATIONS: "largest activation RMS", ATTENTION_LOGITS: "largest attention logit"}


def growth_figures(sweep: SweepResult, histories: Histories) -> list[Figure]:
    """None where no run read such statistics."""
    hardest = hardest_arms(sweep)
    rows: list[tuple[str, Arms]] = [("each at its best rate" if has_several_rates(sweep) else "", best_arms(sweep))]
    if hardest is not None:
        rows.append((f"all at learning rate {hardest[0]:g}", hardest[1]))
    rows = rows[-1:] if len(rows) == 2 and rows[0][1] == rows[1][1] else rows
    cells = [(name, title, arms) for title, arms in rows for name in NAMES if _heights(arms, histories, name)]
    figures = []
    for part in drawn_together(distinct_variants(sweep), MOST_LINES) if cells else []:
        legend = [line_style(place).handle(_label(variant)) for place, variant in enumerate(part)]
        axes = panels(len(cells), "Growth of activations and attention logits", row_height=ROW_HEIGHT,
                      num_columns=NUM_COLUMNS, legend=[*legend, dead_handle()])  # fmt: skip
        for panel, (name, title, arms) in zip(axes, cells, strict=True):
            dress(panel, title, "step", NAMES[name])
            set_counts(panel, max(run.steps for variant in part for run in arms[variant]) or 1)
            set_log_heights(panel, *(_heights(arms, histories, name) or (0.1, 1.0)))
            _draw(panel, part, arms, histories, name)
        figures.append(axes[0].figure)
    return figures


def _draw(axes: Axes, variants: Sequence[Variant], arms: Arms, histories: Histories, name: str) -> None:
    for place, variant in enumerate(variants):
        draw_arm(axes, [histories[run.folder] for run in arms[variant]], name, "steps", line_style(place))
        mark_deaths(axes, arms[variant], histories, name, "steps", line_style(place))


def _heights(arms: Arms, histories: Histories, name: str) -> tuple[float, float] | None:
    readings = [histories[run.folder].largest[name].values for runs in arms.values() for run in runs]
    finite = [float(value) for values in readings for value in values if math.isfinite(value) and value > 0]
    if not finite:
        return None
    margin = max((max(finite) / min(finite)) ** 0.05, 1.15)
    return min(finite) / margin, max(finite) * margin


def _label(variant: Variant) -> str:
    return wrapped(label_of(variant), CHARACTERS_OF_LEGEND, 2)
