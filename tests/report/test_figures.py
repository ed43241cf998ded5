"""The figures of a sweep: what they show, and that nothing in them is cut off or lies upon another."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib import cbook
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from tests.report.made import NUM_LAYERS, dead_run, made_run, made_sweep, write_run, write_sweep

from normlab.report.figure_of_curves import curve_figures
from normlab.report.figure_of_growth import growth_figures
from normlab.report.figure_of_losses import loss_figures
from normlab.report.figure_of_rates import rate_figures
from normlab.report.figure_of_survival import survival_by_rate_figures, survival_figures
from normlab.report.heat_map import axis_values, heat_map, pairs_of_axes
from normlab.report.histories import Series, read_histories, read_history, summarised
from normlab.report.load import load_sweep
from normlab.report.results import SweepResult
from normlab.report.shown import best_arms, distinct, drawn_together, hardest_arms, split
from normlab.report.style import COLOURS, DASHES, MARKERS, line_style, wrapped

LONG = {f"model/{'very_' * 4}long_key_{number}": f"and_its_{'long_' * 3}value_$x$" for number in range(3)}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    return load_sweep(write_sweep(tmp_path_factory.mktemp("sweep")))


def every_figure(sweep: SweepResult) -> list[Figure]:
    histories = read_histories(sweep.runs)
    return [
        *survival_figures(sweep),
        *survival_by_rate_figures(sweep),
        *loss_figures(sweep),
        *rate_figures(sweep),
        *curve_figures(sweep, histories),
        *growth_figures(sweep, histories),
        *(heat_map(sweep, *pair) for pair in pairs_of_axes(sweep)),
    ]


def beyond_limits(axis: Axis) -> list[Text]:
    """Labels of ticks that are not drawn."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high]
    return [label for tick in ticks for label in (tick.label1, tick.label2)]


def check_layout(figure: Figure) -> None:
    """No text leaves the figure; no two texts that are seen overlap."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    renderer, page = canvas.get_renderer(), figure.bbox
    unseen = {id(text) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in beyond_limits(axis)}
    texts = [text for text in figure.findobj(Text) if isinstance(text, Text) and text.get_visible()]
    seen = [text for text in texts if text.get_text().strip() and id(text) not in unseen]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in seen]
    for name, box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1, name
    for (one, a), (other, b) in combinations(boxes, 2):
        assert not a.shrunk(0.9, 0.9).overlaps(b.shrunk(0.9, 0.9)), (one, other)


def test_no_text_is_cut_off_or_lies_upon_another(sweep: SweepResult) -> None:
    figures = every_figure(sweep)
    assert len(figures) == 12
    for figure in figures:
        assert figure.get_size_inches()[0] * figure.dpi == 1000
        check_layout(figure)


def test_long_names_and_dollar_signs_fit_too(tmp_path: Path) -> None:
    runs = []
    for number in range(10):
        for lr, seed in ((0.001, 0), (0.001, 1), (0.003, 0)):
            choices = {**LONG, "model/norm": f"norm_{number}"}
            folder = tmp_path / f"{number}-{lr}-{seed}"
            write_run(folder, choices, lr, seed, "completed")
            loss = 2 + 0.01 * number + lr
            runs.append(made_run(folder=folder, choices=choices, lr=lr, seed=seed, final_val_loss=loss))
    for figure in every_figure(made_sweep(runs)):
        check_layout(figure)


def test_lines_that_are_drawn_together_differ_without_colour() -> None:
    styles = [line_style(place) for place in range(len(COLOURS))]
    assert len({style.marker for style in styles}) == len(styles) == len(MARKERS)
    assert len({str(style.dashes) for style in styles}) == len(DASHES)


def test_survival_panels_say_how_many_died(sweep: SweepResult) -> None:
    (figure,) = survival_figures(sweep)
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert said == ["0 of 9 died"] * 3 + ["0 of 8 died"] + ["6 of 9 died", "3 of 9 died"] * 2


def test_deaths_are_counted_at_the_top_and_every_survivor_is_a_point(sweep: SweepResult) -> None:
    (figure,) = rate_figures(sweep)
    without_norm_and_clamp = figure.axes[4]
    assert [text.get_text() for text in without_norm_and_clamp.texts] == ["3", "3"]
    points = [line for line in without_norm_and_clamp.lines if line.get_marker() == "o"]
    assert len(points) == 3
    assert len({float(np.asarray(line.get_xdata())[0]) for line in points}) == 3


def test_no_figure_against_the_rate_where_there_is_one(tmp_path: Path) -> None:
    sweep = made_sweep([made_run(seed=seed, folder=tmp_path / str(seed)) for seed in range(3)])
    assert rate_figures(sweep) == [] and survival_by_rate_figures(sweep) == [] and loss_figures(sweep) == []


def test_heat_map_writes_median_and_the_share_that_died(sweep: SweepResult) -> None:
    figure = heat_map(sweep, "model/norm", "lr")
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said[3].endswith("6/12 died") is False and said[4].endswith("\n6/12 died") and said[5] == "12/12 died"
    assert axis_values(sweep, "lr") == ["0.001", "0.01", "0.1"] and axis_values(sweep, "seed") == ["0", "1", "2"]
    assert len(pairs_of_axes(sweep)) == 6 and pairs_of_axes(sweep)[2] == ("attention/clamp", "lr")
    heat_map(sweep, "seed", "lr")


def test_heat_map_leaves_out_runs_without_a_result(tmp_path: Path) -> None:
    runs = [
        made_run(outcome=outcome, lr=lr, choices={"model/norm": norm}, folder=tmp_path / f"{norm}{lr}")
        for norm, lr, outcome in (
            ("a", 0.1, "completed"),
            ("a", 0.2, "crashed"),
            ("b", 0.1, None),
            ("b", 0.2, "nonfinite"),
        )
    ]
    said = [text.get_text() for text in heat_map(made_sweep(runs), "model/norm", "lr").axes[0].texts]
    assert said == ["2", "no result", "no result", "1/1 died"]


def test_names_are_no_formulas() -> None:
    assert cbook.is_math_text("$x$")
    assert not cbook.is_math_text(wrapped("value $x$ of $y$", 80, 1))


def test_history_takes_the_largest_over_places_and_knows_what_was_not_finite(tmp_path: Path) -> None:
    choices = {"model/norm": "none", "model/placement": "pre", "attention/clamp": "none"}
    write_run(tmp_path / "run", choices, 0.1, 0, "nonfinite")
    history = read_history(tmp_path / "run")
    activations = history.largest["activation_rms"]
    assert activations.steps.tolist() == [1, 10, 12] and np.isnan(activations.values[-1])
    assert activations.values[0] == pytest.approx(2 * np.exp(4 * 0.1 * 1 * NUM_LAYERS / NUM_LAYERS))
    assert history.steps[-1] == 12 and np.isnan(history.losses["train_loss"].values[-1])


def test_summary_is_the_median_and_range_of_those_that_have_a_reading() -> None:
    series = [
        Series(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])),
        Series(np.array([1.0, 2.0]), np.array([5.0, np.nan])),
    ]
    found = summarised(series, 10)
    assert found.steps.tolist() == [1, 2, 3] and found.median.tolist() == [3, 2, 3]
    assert found.low.tolist() == [1, 2, 3] and found.high.tolist() == [5, 2, 3]


def test_summary_of_more_steps_than_columns_takes_means_of_each_run_first() -> None:
    steps = np.arange(1.0, 101.0)
    found = summarised([Series(steps, steps), Series(steps, steps + 10)], 10)
    assert len(found.steps) == 10 and found.steps[-1] == 100
    assert found.median[-1] == pytest.approx(np.arange(91, 101).mean() + 5, abs=0.6)
    assert (found.high - found.low == pytest.approx(10)) and (found.median > found.low).all()


def test_arms_that_are_compared(sweep: SweepResult) -> None:
    arms = best_arms(sweep)
    assert [runs[0].lr for runs in arms.values()] == [0.01] * 4 + [0.001, 0.01] * 2
    hardest = hardest_arms(sweep)
    assert hardest is not None and hardest[0] == 0.1 and list(hardest[1]) == list(arms)
    assert len(distinct(arms)[0]) == 6 and len(distinct(arms)[1]) == 2


def test_parts_hold_everything_once_and_the_first_everywhere() -> None:
    variants = [(("norm", str(number)),) for number in range(18)]
    parts = drawn_together(variants, 8)
    assert all(part[0] == variants[0] and len(part) <= 8 for part in parts)
    assert [variant for part in parts for variant in part[1:]] == variants[1:]
    assert split([1, 2, 3, 4, 5], 2) == [[1], [2, 3], [4, 5]] and split([], 3) == [[]]


def test_what_one_run_was_read_at_alone_does_not_stand_for_all() -> None:
    steps = np.array([0.0, 10.0, 20.0])
    dying = Series(np.array([0.0, 10.0, 11.0]), np.array([1.0, 2.0, 90.0]))
    found = summarised([Series(steps, steps), Series(steps, steps), dying], 10)
    assert found.steps.tolist() == [0, 10, 11, 20]
    assert found.median.tolist() == [0, 10, 11, 20] and found.high.tolist() == [1, 10, 90, 20]


def test_deaths_are_marked_where_the_last_one_was(tmp_path: Path) -> None:
    runs = [dead_run(steps, seed=steps, lr=0.1, folder=tmp_path / f"{steps}") for steps in (5, 9)]
    runs += [made_run(seed=seed, lr=lr, folder=tmp_path / f"{lr}{seed}") for seed in (7, 8) for lr in (0.01, 0.1)]
    (figure,) = survival_by_rate_figures(made_sweep(runs))
    marks = [line.get_xydata() for line in figure.axes[0].lines if line.get_marker() not in ("", "None")]
    assert np.asarray(marks[1]).tolist() == [[9, 0.5]]


def test_a_death_does_not_flatter_its_cell(tmp_path: Path) -> None:
    losses = {"none": [2.0, None, None], "rmsnorm": [2.5, 2.6, 60.0]}
    runs = [
        (dead_run(5, **fields) if loss is None else made_run(final_val_loss=loss, **fields))
        for norm, of in losses.items()
        for seed, loss in enumerate(of)
        for lr in (0.1, 0.2)
        for fields in [
            {"choices": {"model/norm": norm}, "seed": seed, "lr": lr, "folder": tmp_path / f"{norm}{seed}{lr}"}
        ]
    ]
    said = [text.get_text() for text in heat_map(made_sweep(runs), "model/norm", "lr").axes[0].texts]
    assert said == ["6.9\n2/3 died"] * 2 + ["2.6"] * 2


def test_an_interval_that_is_cut_has_an_arrow_head_and_the_baseline_a_line(tmp_path: Path) -> None:
    losses = {"none": [2.0, 2.1], "rmsnorm": [2.3, 2.3001]}
    runs = [
        made_run(final_val_loss=loss, choices={"model/norm": norm}, seed=seed, folder=tmp_path / f"{norm}{seed}")
        for norm, of in losses.items()
        for seed, loss in enumerate(of)
    ]
    (figure,) = loss_figures(made_sweep(runs, baseline={"model/norm": "rmsnorm"}))
    (axes,) = figure.axes
    assert [line.get_marker() for line in axes.lines].count("<") == 1
    assert [line.get_marker() for line in axes.lines].count(">") == 1
    assert np.asarray(axes.lines[0].get_xdata())[0] == pytest.approx(2.30005)
    assert "learning rate" not in str(figure.get_suptitle())
