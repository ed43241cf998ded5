"""Figures of a run: what they show, when they are drawn, and that they are whole after a resumption."""

import io
import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from normlab.core.records import Outcome, StepRecord
from normlab.core.run_folder import RunFolder
from normlab.telemetry.figure_history import NUM_COLUMNS, Fatality, LayerHistory
from normlab.telemetry.figure_of_activations import activation_figure
from normlab.telemetry.figure_of_attention import attention_figure
from normlab.telemetry.figure_style import as_png, log_ticks
from normlab.telemetry.figures import FigureSink, drawn_figures
from normlab.telemetry.sinks import JsonLinesSink, NullSink

SITES = ("residual", "attention", "ffn_hidden", "ffn")
NAMES = ("activation_rms", "attention_logits")
GREY, BLACK, WHITE = (166, 166, 166), (0, 0, 0), (255, 255, 255)
VIRIDIS_LOW, VIRIDIS_HIGH = (68, 1, 84), (253, 231, 37)


class Album(NullSink):
    """A logger that keeps the pictures it gets."""

    def __init__(self) -> None:
        self.pictures: list[tuple[str, int, bytes]] = []

    def image(self, tag: str, png: bytes, step: int) -> None:
        self.pictures.append((tag, step, png))

    @property
    def steps(self) -> list[int]:
        return [step for tag, step, _ in self.pictures if tag == "figures/activation_rms"]


def readings_of(rms_L: Iterable[float], logits_L: Iterable[float] = ()) -> dict[str, float]:
    """The same RMS at every site."""
    rms = {f"activation_rms/{site}/layer_{layer}": value for layer, value in enumerate(rms_L) for site in SITES}
    return rms | {f"attention_logit_max/layer_{layer}": value for layer, value in enumerate(logits_L)}


def history_of(*steps_and_readings: tuple[int, dict[str, float]]) -> LayerHistory:
    history = LayerHistory()
    for step, readings in steps_and_readings:
        history.add(step, readings)
    return history


def record_of(step: int, telemetry: dict[str, float] | None = None, **changes) -> StepRecord:
    values = {"tokens": 32 * step, "seconds": 100.0 * step, "lr": 0.01, "train_loss": 2.5, "grad_norm": 0.75}
    return StepRecord(step=step, telemetry=telemetry or {}, **{**values, **changes})


def sink_of(folder: Path, logger: Album, past=(), outcome: Callable[[], Outcome | None] = lambda: None) -> FigureSink:
    return FigureSink(folder, logger, past, outcome)


def pixels_of(figure: Figure) -> np.ndarray:
    """RGB from 0 to 255; the first row is the lowest."""
    image = matplotlib.image.imread(io.BytesIO(as_png(figure)), format="png")
    return np.rint(255 * image[::-1, :, :3]).astype(int)


def colour_at(figure: Figure, axes: Axes, step: float, layer: float) -> tuple[int, ...]:
    column, row = axes.transData.transform((step, layer))
    return tuple(pixels_of(figure)[int(row), int(column)])


def is_shown(figure: Figure, axes: Axes, step: float, layer: float, colour: tuple[int, ...]) -> bool:
    """True where each channel agrees but for rounding."""
    return all(abs(a - b) <= 1 for a, b in zip(colour_at(figure, axes, step, layer), colour, strict=True))


def panels(figure: Figure) -> list[Axes]:
    return figure.axes[:4]


def texts_of(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in [*figure.texts, *(t for axes in figure.axes for t in axes.texts)])


# What is kept


@pytest.mark.parametrize("every", [1, 50])
@pytest.mark.parametrize("num_readings", [1, 2, NUM_COLUMNS, NUM_COLUMNS + 1, 2 * NUM_COLUMNS + 1, 9 * NUM_COLUMNS + 7])
def test_the_largest_and_the_lost_are_never_dropped(num_readings: int, every: int) -> None:
    generator = np.random.default_rng(num_readings)
    numbers = generator.normal(size=num_readings)
    lost = generator.choice([math.nan, math.inf, -math.inf], num_readings)
    values = np.where(generator.random(num_readings) < 0.05, lost, numbers).tolist()
    history = history_of(*((1 + every * n, {"attention_logit_max/layer_0": value}) for n, value in enumerate(values)))
    readings = history.of("attention_logit_max")
    assert readings is not None
    kept_C, first_C, last_C = readings.values_LC[0], readings.first_steps_C, readings.last_steps_C
    assert len(kept_C) <= NUM_COLUMNS
    assert len(values) < NUM_COLUMNS or len(kept_C) >= NUM_COLUMNS // 2
    assert history.num_readings == len(values)
    for column, (first, last) in enumerate(zip(first_C, last_C, strict=True)):
        covered = values[(int(first) - 1) // every : (int(last) - 1) // every + 1]
        assert kept_C[column] == (max(covered) if all(map(math.isfinite, covered)) else math.inf)
    assert np.array_equal(first_C[1:], last_C[:-1] + every)
    sizes = set((last_C - first_C)[:-1])
    assert len(sizes) <= 1  # all columns but the last stand for as many readings


def test_tags_by_head_of_other_sites_and_of_no_layer_are_passed_over() -> None:
    history = LayerHistory()
    tags = ("attention_logit_max/layer_0/head_1", "activation_absmax/ffn/layer_0", "activation_rms/logits", "lr")
    history.add(1, dict.fromkeys(tags, 1.0))
    assert history.num_readings == 0
    assert all(history.of(quantity) is None for quantity in ("attention_logit_max", "activation_rms/ffn"))


def test_a_reading_that_was_not_taken_is_not_a_lost_one() -> None:
    history = history_of((1, readings_of([1.0])), (2, readings_of([1.0, 2.0])), (3, readings_of([math.nan])))
    readings = history.of("activation_rms/residual")
    assert readings is not None
    expected_LC = [[1.0, 1.0, math.inf], [math.nan, 2.0, math.nan]]
    assert np.array_equal(readings.values_LC, expected_LC, equal_nan=True)


# What is shown


def test_cells_are_where_their_step_and_layer_are() -> None:
    figure = activation_figure(history_of((1, readings_of([1.0, 10.0])), (2, readings_of([10.0, 1.0]))), None)
    for axes in panels(figure):
        assert is_shown(figure, axes, 0.75, -0.25, VIRIDIS_LOW)
        assert is_shown(figure, axes, 0.75, 0.75, VIRIDIS_HIGH)
        assert is_shown(figure, axes, 2.25, 0.25, VIRIDIS_HIGH)
        assert is_shown(figure, axes, 2.25, 1.25, VIRIDIS_LOW)
    assert [axes.get_title(loc="left") for axes in panels(figure)] == [
        "residual stream after the layer",
        "attention output",
        "feed-forward, input of its last projection",
        "feed-forward output",
    ]


def test_colours_are_logarithmic() -> None:
    figure = activation_figure(history_of((1, readings_of([1e-4, 1e-2, 1.0]))), None)
    middle = tuple(round(255 * value) for value in colormaps["viridis"](0.5)[:3])
    assert is_shown(figure, panels(figure)[0], 0.75, 1.25, middle)


def test_a_cell_reaches_half_way_to_the_next_reading() -> None:
    figure = activation_figure(history_of((1, readings_of([1.0])), (50, readings_of([10.0]))), None)
    axes = panels(figure)[0]
    assert is_shown(figure, axes, 24.9, 0.2, VIRIDIS_LOW)
    assert is_shown(figure, axes, 26.1, 0.2, VIRIDIS_HIGH)


@pytest.mark.parametrize("lost", [math.nan, math.inf, -math.inf])
def test_lost_zero_and_missing_cells_have_colours_of_their_own(lost: float) -> None:
    taken = [readings_of([1.0, 1.0, 1.0]), readings_of([lost, 0.0]), readings_of([1.0, 1.0, 1.0])]
    figure = activation_figure(history_of(*enumerate(taken, start=1)), None)
    axes = panels(figure)[3]
    assert is_shown(figure, axes, 2.3, -0.3, GREY)
    assert is_shown(figure, axes, 2.3, 1.3, BLACK)
    assert is_shown(figure, axes, 2.3, 2.3, WHITE)
    [crosses] = axes.lines
    assert np.array_equal(crosses.get_xydata(), [[2, 0]])
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "exactly 0",
        "NaN or infinite",
        "the first in its layer",
    ]


def test_a_quantity_without_readings_leaves_its_panel_empty() -> None:
    history = history_of((1, {"activation_rms/ffn/layer_0": 1.0}))
    assert texts_of(activation_figure(history, None)).count("no readings") == 3
    assert attention_figure(history, None) is None
    assert set(drawn_figures(history, None)) == {"activation_rms"}


def test_every_layer_is_a_line_through_its_finite_logits() -> None:
    steps = [(1, [2.0, 4.0]), (2, [3.0, math.inf]), (3, [5.0, math.nan])]
    figure = attention_figure(history_of(*((step, readings_of([], logits)) for step, logits in steps)), None)
    assert figure is not None
    [axes] = figure.axes
    first, second, cross = axes.lines
    assert np.array_equal(first.get_xydata(), [[1, 2], [2, 3], [3, 5]])
    assert np.array_equal(second.get_xydata(), [[1, 4], [2, math.nan], [3, math.nan]], equal_nan=True)
    assert cross.get_xdata() == [2]
    assert cross.get_color() == pytest.approx(second.get_color())
    assert "the first NaN or infinite logit of a layer" in texts_of(figure)
    assert axes.get_yscale() == "log"
    assert axes.get_ylabel() == "largest logit (log scale)"


@pytest.mark.parametrize(
    ("logits", "scale"),
    [([2.0, 50.0], "log"), ([-2.0, 50.0], "linear"), ([0.0, 1.0], "linear"), ([-2.0, 5e3], "symlog")],
)
def test_the_scale_fits_the_logits_and_ticks_lie_within(logits: list[float], scale: str) -> None:
    figure = attention_figure(history_of((1, readings_of([], logits))), None)
    assert figure is not None
    as_png(figure)
    [axes] = figure.axes
    low, high = axes.get_ylim()
    assert axes.get_yscale() == scale
    assert low < min(logits) and max(logits) < high
    assert 2 <= len([tick for tick in axes.get_yticks() if low <= tick <= high]) <= 12


@pytest.mark.parametrize(("logit", "is_near"), [(20.0, False), (40.0, True), (200.0, True), (1e4, False)])
def test_where_exp_overflows_is_drawn_near_it_only(logit: float, is_near: bool) -> None:
    figure = attention_figure(history_of((1, readings_of([], [logit]))), None)
    assert figure is not None
    [axes] = figure.axes
    levels = [np.asarray(line.get_ydata())[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert levels == ([pytest.approx(88.7228, abs=1e-4)] if is_near else [])
    assert ("naive softmax" in texts_of(figure)) == is_near
    assert not is_near or axes.get_ylim()[0] < 88.7 < axes.get_ylim()[1]
    with np.errstate(over="ignore"):
        assert np.isinf(np.exp(np.float32(88.73))) and np.isfinite(np.exp(np.float32(88.72)))


@pytest.mark.parametrize("draw", [activation_figure, attention_figure])
def test_the_fatal_step_is_marked_though_nothing_was_read_then(draw) -> None:
    history = history_of(*((step, readings_of([1.0], [2.0])) for step in (1, 50)))
    figure = draw(history, Fatality(73, Outcome.NONFINITE))
    assert "nonfinite at step 73" in texts_of(figure)
    for axes in figure.axes:
        assert [73, 73] in [list(line.get_xdata()) for line in axes.lines]
        assert axes.get_xlim() == (0.5, 73.5)
    assert "at step" not in texts_of(draw(history, None))


@pytest.mark.parametrize(("num_layers", "num_readings"), [(1, 1), (1, 3), (2, 1), (48, 3), (600, 1)])
def test_figures_are_1200_pixels_wide_and_nothing_reaches_beyond(num_layers: int, num_readings: int) -> None:
    rows = [readings_of(np.geomspace(1e-9, 1e9, num_layers), np.geomspace(1, 1e9, num_layers))] * num_readings
    history = history_of(*((1 + 50 * index, row) for index, row in enumerate(rows)))
    fatality = Fatality(100_000, Outcome.DIVERGED)
    for figure in (activation_figure(history, fatality), attention_figure(history, fatality)):
        assert figure is not None
        image = pixels_of(figure)
        assert image.shape[1] == 1200
        for edge in (image[0], image[-1], image[:, 0], image[:, -1]):
            assert (edge == 255).all()


@given(st.lists(st.lists(st.floats(width=32), min_size=3, max_size=3), min_size=1, max_size=4), st.booleans())
@settings(max_examples=25, deadline=None)
def test_any_numbers_can_be_drawn(rows: list[list[float]], is_lost: bool) -> None:
    history = history_of(*((step, readings_of(map(abs, row), row)) for step, row in enumerate(rows, start=1)))
    assert set(drawn_figures(history, Fatality(9, Outcome.NONFINITE) if is_lost else None)) == set(NAMES)


@given(st.floats(-44, 37), st.floats(0.302, 80))
def test_an_axis_of_logarithms_has_two_to_ten_ticks(low_exponent: float, num_decades: float) -> None:
    low, high = 10.0**low_exponent, 10.0 ** (low_exponent + num_decades)
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 10
    assert (np.diff(ticks) > 0).all()
    assert low <= ticks[0] and ticks[-1] <= high


# When it is drawn, and where it goes


def test_figures_are_drawn_at_validations_and_at_the_end(tmp_path: Path) -> None:
    album = Album()
    sink = sink_of(tmp_path, album)
    for step in range(1, 8):
        sink.record(record_of(step, readings_of([1.0], [2.0]), val_loss=1.0 if step in (3, 6) else None))
    assert album.steps == [3, 6]
    sink.close()
    assert album.steps == [3, 6, 7]
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.png" for name in NAMES}
    for name in NAMES:
        tag, _, png = next(picture for picture in reversed(album.pictures) if picture[0] == f"figures/{name}")
        assert tag == f"figures/{name}"
        assert (tmp_path / f"{name}.png").read_bytes() == png


def test_a_figure_is_not_drawn_twice(tmp_path: Path) -> None:
    album = Album()
    sink = sink_of(tmp_path, album)
    sink.record(record_of(1, readings_of([1.0]), val_loss=1.0))
    sink.record(record_of(2, val_loss=1.0))
    sink.close()
    assert album.steps == [1]


@pytest.mark.parametrize("outcome", list(Outcome))
def test_death_is_drawn_though_its_step_has_no_reading(tmp_path: Path, outcome: Outcome) -> None:
    album, ended = Album(), []
    sink = sink_of(tmp_path, album, outcome=lambda: ended[0] if ended else None)
    sink.record(record_of(1, readings_of([1.0]), val_loss=1.0))
    ended.append(outcome)
    sink.record(record_of(2, train_loss=math.nan))
    sink.close()
    assert album.steps == ([1, 2] if outcome in (Outcome.NONFINITE, Outcome.DIVERGED) else [1])


def test_without_telemetry_there_is_no_figure(tmp_path: Path) -> None:
    album, folder = Album(), tmp_path / "figures"
    sink = sink_of(folder, album, outcome=lambda: Outcome.NONFINITE)
    sink.record(record_of(1, val_loss=1.0))
    sink.close()
    assert not folder.exists()
    assert album.pictures == []


def test_figures_of_a_resumed_run_are_those_of_one_that_went_through(tmp_path: Path) -> None:
    values = (1.0, math.nan, 3.0, math.inf, 5.0, 6.0)
    records = [record_of(step, readings_of([0.5, value], [value, 7.0])) for step, value in enumerate(values, start=1)]
    through, halves = sink_of(tmp_path / "through", Album()), RunFolder(tmp_path)
    metrics = JsonLinesSink(halves.metrics)
    for record in records[:4]:
        metrics.record(record)
    metrics.close()
    resumed = sink_of(halves.figures, Album(), halves.read_metrics())
    for record in records:
        through.record(record)
    for record in records[4:]:
        resumed.record(record)
    through.close()
    resumed.close()
    for name in NAMES:
        whole = (tmp_path / "through" / f"{name}.png").read_bytes()
        assert (halves.figures / f"{name}.png").read_bytes() == whole
    forgetful = sink_of(tmp_path / "forgetful", Album())
    for record in records[4:]:
        forgetful.record(record)
    forgetful.close()
    assert (tmp_path / "forgetful" / "activation_rms.png").read_bytes() != (
        halves.figures / "activation_rms.png"
    ).read_bytes()


def test_figures_are_drawn_no_more_often_than_once_a_minute(tmp_path: Path) -> None:
    album = Album()
    sink = sink_of(tmp_path, album, [{"step": 1, "seconds": 10.0, **readings_of([1.0])}])
    for step, seconds in ((2, 69.0), (3, 70.0), (4, 129.0), (5, 131.0)):
        sink.record(record_of(step, readings_of([1.0]), val_loss=1.0, seconds=seconds))
    assert album.steps == [3, 5]


def test_a_resumed_run_that_reads_nothing_more_draws_what_it_had_read(tmp_path: Path) -> None:
    album = Album()
    sink = sink_of(tmp_path, album, [json.loads(json.dumps({"step": 1, "seconds": 1.0, **readings_of([1.0])}))])
    sink.record(record_of(2))
    sink.close()
    assert album.steps == [2]


def test_matplotlib_comes_with_the_first_figure_and_without_its_global_state(tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from normlab.core.records import StepRecord
from normlab.telemetry.figures import FigureSink
from normlab.telemetry.sinks import NullSink
sink = FigureSink(Path({str(tmp_path)!r}), NullSink(Path(), 1), [], lambda: None)
fields = dict(tokens=1, seconds=60.0, lr=1.0, train_loss=1.0, grad_norm=1.0)
sink.record(StepRecord(step=1, telemetry={{"activation_rms/ffn/layer_0": 1.0}}, **fields))
assert "matplotlib" not in sys.modules
sink.record(StepRecord(step=2, val_loss=1.0, **fields))
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "activation_rms.png").is_file()


def test_a_run_without_a_logger_has_figures_too_and_its_end_is_marked(command, text_data, tmp_path: Path) -> None:
    fatal = ("model/norm=none", "init.scale.factor=1e30", "init.scale.roles=[ffn_down]", "logger=none")
    said = command("model=micro", "tokenizer=bytes", *text_data, *fatal, "hydra.run.dir=run")
    assert said.exit_code == 0 and said.out.startswith("nonfinite")
    figures = RunFolder(tmp_path / "run").figures
    assert {path.name for path in figures.iterdir()} == {f"{name}.png" for name in NAMES}
    image = np.rint(255 * matplotlib.image.imread(figures / "activation_rms.png")[..., :3])
    assert (image == (213, 94, 0)).all(-1).any()  # the colour of the fatal step
    assert (image == GREY).all(-1).any()


def test_a_run_without_telemetry_has_no_figures(command, text_data, tmp_path: Path) -> None:
    small = ("model=micro", "tokenizer=bytes", "trainer.steps=2", "trainer.val_tokens=256", "schedule.warmup_steps=1")
    said = command(*small, *text_data, "telemetry=none", "hydra.run.dir=run")
    assert said.exit_code == 0
    assert not RunFolder(tmp_path / "run").figures.exists()
