"""The figures of a report, drawn, named and captioned."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from normlab.report.document import Picture
from normlab.report.figure_of_curves import Histories, curve_figures
from normlab.report.figure_of_growth import growth_figures
from normlab.report.figure_of_losses import loss_figures
from normlab.report.figure_of_rates import rate_figures
from normlab.report.figure_of_survival import survival_by_rate_figures, survival_figures
from normlab.report.heat_map import axis_name, heat_map, pairs_of_axes
from normlab.report.results import SweepResult
from normlab.report.variants import short_key
from normlab.telemetry.figure_style import as_png

MOST_HEAT_MAPS = 10
SURVIVAL = (
    "Share of runs alive against the step, for each variant over all rates and seeds, with the 95 % interval "
    "(Greenwood's variance, log-log). Short strokes: runs that ended alive or go on."
)
SURVIVAL_BY_RATE = (
    "The same for each learning rate, darker for larger rates. The marker lies where the last run died; of rates at "
    "which none died, at the start."
)
LOSSES = (
    "Final validation loss in nats per token: every seed, the mean, and its 95 % interval, with an arrow head where "
    "that goes on beyond the panel."
)
RATES = (
    "Final validation loss in nats per token against the learning rate. Every run that survived is a circle (seeds "
    "side by side, a triangle where it lies above the panel), crosses at the top are the dead with their number, the "
    "hatching is where survival ends, and the star is the best rate."
)
HEAT_MAPS = (
    "Each cell shows the median final validation loss in nats per token, darker for higher ones, and how many runs "
    "died. So that no death flatters a cell, a run that died counts with its loss at initialisation, as does one that "
    "ended above it; cells in which all died are grey. All else that the sweep varied is pooled in a cell, so what "
    "looks like an effect of two axes may be that of a third."
)
CURVES = (
    "Training and validation loss in nats per token, on logarithmic axes, against steps, tokens and seconds of "
    "training. Lines are medians over seeds, bands their range; a cross is the last reading of a run that died, on "
    "the edge where it lies beyond."
)
GROWTH = (
    "The largest RMS of any layer's activations, and the largest attention logit of any layer and head, on logarithmic "
    "axes. Lines are medians over seeds, bands their range; a cross is the last finite reading of a run that died."
)


def survival_pictures(sweep: SweepResult) -> list[Picture]:
    """By variant, and by rate where runs died."""
    has_died = any(run.is_dead for run in sweep.runs)
    by_rate = survival_by_rate_figures(sweep) if has_died else []
    return [
        *_named("survival", survival_figures(sweep), SURVIVAL),
        *_named("survival_by_rate", by_rate, SURVIVAL_BY_RATE),
    ]


def loss_pictures(sweep: SweepResult) -> list[Picture]:
    """Losses at the best rates."""
    return _named("losses", loss_figures(sweep), LOSSES)


def rate_pictures(sweep: SweepResult) -> list[Picture]:
    """Losses against rates."""
    return _named("loss_against_rate", rate_figures(sweep), RATES)


def curve_pictures(sweep: SweepResult, histories: Histories) -> list[Picture]:
    """Learning curves."""
    return _named("learning_curves", curve_figures(sweep, histories), CURVES)


def growth_pictures(sweep: SweepResult, histories: Histories) -> list[Picture]:
    """Activations and attention logits."""
    return _named("growth", growth_figures(sweep, histories), GROWTH)


def heat_map_pictures(sweep: SweepResult) -> list[Picture]:
    """One for every two axes, the first of them where there are very many."""
    made = []
    for rows, columns in pairs_of_axes(sweep)[:MOST_HEAT_MAPS]:
        names = [_file_name(short_key(axis)) for axis in (rows, columns)]
        caption = f"By {axis_name(rows)} and {axis_name(columns)}."
        name = f"heat_map_{'_by_'.join(names)}"
        taken = sum(picture.name == name or picture.name.startswith(f"{name}_") for picture in made)
        made.append(Picture(f"{name}_{taken + 1}" if taken else name, as_png(heat_map(sweep, rows, columns)), caption))
    return made


def _named(name: str, figures: Sequence[Figure], caption: str) -> list[Picture]:
    """Several of a kind are numbered."""
    several = len(figures) > 1
    return [
        Picture(
            f"{name}_{number}" if several else name,
            as_png(figure),
            f"{caption} Part {number} of {len(figures)}." if several else caption,
        )
        for number, figure in enumerate(figures, start=1)
    ]


def _file_name(text: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text)
