"""The figure of growth shows every statistic by layer up to the fatal step, with fits, limits and crossings."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from tests.autopsy.deaths import LARGE_LOGIT, LOGITS_GROW, growth_of, story

from normlab.autopsy.figure_of_growth import CROSSING_COLOUR, FIT_COLOUR, growth_figure
from normlab.autopsy.story import History, Series
from normlab.core.records import Outcome
from normlab.telemetry.figure_style import FATAL_COLOUR, as_png


def series(values) -> Series:
    values = np.asarray(values, dtype=np.float64)
    return Series(np.arange(1, len(values) + 1), values)


def history_of(num_steps: int = 60, num_layers: int = 4) -> History:
    step = np.arange(1, num_steps + 1)
    growing = 10.0 * np.exp(0.125 * np.maximum(0, step - num_steps + 20))
    lost = np.where(step == num_steps, np.nan, 2.5)
    history = {"train_loss": series(lost), "grad_norm": series(growing)}
    for layer in range(num_layers):
        history[f"attention_logit_max/layer_{layer}"] = series(growing / (num_layers - layer))
        history[f"attention_entropy/layer_{layer}"] = series(np.linspace(3, 1 + layer, num_steps))
        for site in ("residual", "attention", "ffn_hidden", "ffn"):
            history[f"activation_rms/{site}/layer_{layer}"] = series(lost if layer == 3 else growing)
            history[f"activation_absmax/{site}/layer_{layer}"] = series(5 * growing)
    return history


def drawn(history: History, told=None) -> Figure:
    figure = growth_figure(history, told or story(), Outcome.NONFINITE)
    assert figure is not None
    assert as_png(figure).startswith(b"\x89PNG")
    return figure


def panel(figure: Figure, title: str) -> Axes:
    return next(axes for axes in figure.axes if axes.get_title("left") == title)


def lines_of(axes: Axes, **wanted: str) -> list:
    return [line for line in axes.lines if all(getattr(line, f"get_{key}")() == value for key, value in wanted.items())]


def test_a_panel_for_every_statistic_and_a_line_for_every_layer() -> None:
    figure = drawn(history_of())
    assert [axes.get_title("left") for axes in figure.axes] == [
        "training loss", "gradient norm, before clipping", "largest attention logit", "attention entropy, nats",
        "residual stream, RMS", "attention output, RMS", "feed-forward hidden, RMS", "feed-forward output, RMS", "",
    ]  # fmt: skip
    logits = panel(figure, "largest attention logit")
    assert len([line for line in logits.lines if len(np.atleast_1d(line.get_xdata())) > 2]) == 4
    assert all(axes.get_yscale() == "log" for axes in figure.axes[:-1])


def test_the_fatal_step_is_marked_in_every_panel() -> None:
    for axes in drawn(history_of()).axes[:-1]:
        (line,) = lines_of(axes, color=FATAL_COLOUR)
        assert set(line.get_xdata()) == {60}


def test_the_fit_is_the_curve_that_was_fitted_drawn_to_the_end() -> None:
    assert LOGITS_GROW.fit is not None
    early = replace(LOGITS_GROW, fit=replace(LOGITS_GROW.fit, last_step=50, value_at_last=30.0))
    (line,) = lines_of(panel(drawn(history_of(), story(growths=(early,))), "largest attention logit"), color=FIT_COLOUR)
    assert list(line.get_xdata()) == [40, 60]
    assert line.get_ydata() == pytest.approx([30 * np.exp(-1.25), 30 * np.exp(1.25)])


def test_the_fit_of_what_falls_falls() -> None:
    falling = growth_of("attention_entropy/layer_0", baseline=3.0, last=0.1, limit=None, crosses_at=None)
    (line,) = lines_of(
        panel(drawn(history_of(), story(growths=(falling,))), "attention entropy, nats"), color=FIT_COLOUR
    )
    assert line.get_ydata()[0] > line.get_ydata()[1]


def test_limit_and_crossing_are_drawn_where_they_are() -> None:
    figure = drawn(history_of())
    logits = panel(figure, "largest attention logit")
    (crossing,) = lines_of(logits, markerfacecolor=CROSSING_COLOUR)
    assert (crossing.get_xdata()[0], crossing.get_ydata()[0]) == (48, 30)
    (limit,) = lines_of(logits, linestyle=":")
    assert limit.get_ydata()[0] == 88.72
    assert [text.get_text() for text in logits.texts] == ["limit 88.7"]
    assert not lines_of(panel(figure, "training loss"), markerfacecolor=CROSSING_COLOUR)


def test_a_limit_that_is_far_off_does_not_flatten_the_curves() -> None:
    far = replace(LOGITS_GROW, limit=3.4e38)
    logits = panel(drawn(history_of(), story(growths=(far,))), "largest attention logit")
    assert logits.get_ylim()[1] < 1e4 and not lines_of(logits, linestyle=":")


def test_the_measure_is_the_one_that_the_story_tells_of() -> None:
    told = story(growths=(growth_of("activation_absmax/ffn/layer_1"),))
    titles = [axes.get_title("left") for axes in drawn(history_of(), told).axes]
    assert "feed-forward output, largest magnitude" in titles and "residual stream, RMS" in titles


def test_the_first_value_that_is_not_finite_is_crossed() -> None:
    (cross,) = lines_of(panel(drawn(history_of()), "residual stream, RMS"), marker="x")
    assert cross.get_xdata()[0] == 60


def test_only_the_last_steps_of_a_long_run_are_shown() -> None:
    told = story(end_step=5000, growths=(replace(LOGITS_GROW, began_at=4980),), crossings=())
    axes = drawn(history_of(num_steps=5000), told).axes[0]
    assert axes.get_xlim() == (4949.5, 5000.5)
    from_the_start = story(end_step=5000, growths=told.growths, crossings=(replace(LARGE_LOGIT, step=1),))
    assert drawn(history_of(num_steps=5000), from_the_start).axes[0].get_xlim() == (4949.5, 5000.5)


def test_without_telemetry_there_are_loss_and_gradient() -> None:
    history = {tag: history_of()[tag] for tag in ("train_loss", "grad_norm")}
    assert len(drawn(history, story(growths=(), crossings=())).axes) == 3


@pytest.mark.parametrize("history", [{}, {"train_loss": series([2.0])}, {"grad_norm": series([np.nan, np.inf])}])
def test_no_figure_of_nothing(history: History) -> None:
    assert growth_figure(history, story(end_step=2, growths=(), crossings=()), Outcome.NONFINITE) is None


def test_texts_do_not_overlap() -> None:
    figure = drawn(history_of(num_layers=24))
    figure.canvas.draw()
    texts = [*figure.texts, *(text for axes in figure.axes for text in (axes._left_title, axes.xaxis.label))]  # type: ignore[attr-defined]
    texts += [label for axes in figure.axes[:-1] for label in (*axes.get_xticklabels(), *axes.get_yticklabels())]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    boxes += [legend.get_window_extent() for axes in figure.axes if (legend := axes.get_legend())]
    for index, box in enumerate(boxes):
        assert figure.bbox.containsx(box.x0) and figure.bbox.containsy(box.y0) and figure.bbox.containsx(box.x1)
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
