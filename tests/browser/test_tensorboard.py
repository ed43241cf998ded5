"""A sweep in a real TensorBoard: all of its runs, the dead ones too, are on every page, and can be told apart."""

from collections.abc import Iterator

import pytest

pytest.importorskip("playwright", reason="needs Playwright: uv sync")
from playwright.sync_api import Browser, Locator, Page, expect
from tests.browser.conftest import Sweep
from tests.browser.opened import TIMEOUT_MS, Opened, opened, served

pytestmark = pytest.mark.browser
expect.set_options(timeout=TIMEOUT_MS)

DEAD_COLOUR, LIVE_COLOUR = "rgb(255, 0, 0)", "rgb(0, 0, 255)"
"""Of the largest and the smallest share that died."""


@pytest.fixture(scope="module")
def site(browser: Browser, sweep: Sweep) -> Iterator[Opened]:
    with served(sweep.folder) as address:
        context = browser.new_context(viewport={"width": 1400, "height": 1000})
        yield opened(context, address)
        context.close()


@pytest.fixture
def board(site: Opened) -> Iterator[Page]:
    """TensorBoard's page; what it asks of others, and its errors, fail the test."""
    yield site.page
    site.check()


def go_to(board: Page, tab: str) -> None:
    board.goto(f"{board.url.partition('#')[0]}#{tab}")


def of_tensorboard(runs: list[str]) -> list[str]:
    """What TensorBoard calls them: their folders of events."""
    return sorted(f"{run}/tensorboard" for run in runs)


def texts(found: Locator) -> list[str]:
    return sorted(text.strip() for text in found.all_inner_texts())


def expect_selectable(dashboard: Locator, sweep: Sweep) -> None:
    """All runs are offered at the side."""
    names = dashboard.locator("tf-runs-selector .item-label-container span")
    expect(names).to_have_count(len(sweep.runs))
    assert texts(names) == of_tensorboard(sweep.runs)


def hparams(board: Page, view: str) -> Locator:
    go_to(board, "hparams")
    main = board.locator("tf-hparams-main")
    main.locator("paper-tab", has_text=view).click()
    return main


def test_time_series_has_every_run_with_its_last_value(board: Page, sweep: Sweep) -> None:
    go_to(board, "timeseries")
    for run in sweep.runs:
        expect(board.locator("runs-data-table")).to_contain_text(f"{run}/tensorboard")
    board.locator("metrics-tag-filter-component input").fill("loss/train")
    card = board.locator("metrics-filtered-view card-view")
    expect(card).to_have_count(1)
    for run in sweep.runs:
        expect(card).to_contain_text(f"{run}/tensorboard")


def test_scalars_draws_every_run(board: Page, sweep: Sweep) -> None:
    go_to(board, "scalars")
    dashboard = board.locator("tf-scalar-dashboard")
    expect_selectable(dashboard, sweep)
    dashboard.locator("tf-tag-filterer input").fill("lr$")
    card = dashboard.locator("tf-scalar-card", has_text="tag: lr")
    lines = card.first.locator(".line-plot:not(.ghost) path")
    expect(lines).to_have_count(len(sweep.runs))
    assert not [line for line in lines.all() if "NaN" in (line.get_attribute("d") or "NaN")]


def test_custom_scalars_groups_the_tags_of_every_run(board: Page, sweep: Sweep) -> None:
    go_to(board, "custom_scalars")
    dashboard = board.locator("tf-custom-scalar-dashboard")
    expect_selectable(dashboard, sweep)
    groups = ["activation RMS by layer", "attention by layer", "gradients", "largest activation by layer", "loss"]
    names = dashboard.locator(".category-name")
    expect(names).to_have_count(len(groups) + 1)
    assert texts(names) == [*groups, "updates by role"]
    charts = dashboard.locator("tf-custom-scalar-multi-line-chart-card")
    losses = len(sweep.runs) + len(sweep.completed)  # in training, and where there was one in validation
    expect(charts.filter(has_text="training and validation loss")).to_contain_text(f"Matches ({losses})")
    expect(charts.filter(has_text="learning rate")).to_contain_text(f"Matches ({len(sweep.runs)})")
    expect(charts.filter(has_text="residual stream").first).to_contain_text(f"Matches ({2 * len(sweep.runs)})")


def test_images_has_the_figures_of_every_run(board: Page, sweep: Sweep) -> None:
    go_to(board, "images")
    dashboard = board.locator("tf-image-dashboard")
    expect_selectable(dashboard, sweep)
    for figure, runs in (
        ("figures/activation_rms", sweep.runs),
        ("figures/attention_logits", sweep.runs),
        ("autopsy/autopsy_growth", sweep.dead),
    ):
        dashboard.locator("tf-tag-filterer input").fill(figure)
        shown = dashboard.locator("tf-category-paginated-view", has_text="Tags matching").locator("tf-image-loader")
        expect(shown).to_have_count(len(runs))
        assert texts(shown.locator("#heading-run")) == of_tensorboard(runs)
        for picture in shown.locator("#main-image-container img").all():
            picture.scroll_into_view_if_needed()
            board.wait_for_function("image => image.naturalWidth > 100", arg=picture.element_handle())


def test_text_has_the_configuration_of_every_run_and_the_autopsy_of_the_dead(board: Page, sweep: Sweep) -> None:
    go_to(board, "text")
    dashboard = board.locator("tf-text-dashboard")
    expect_selectable(dashboard, sweep)
    for tag, runs, content in (
        ("autopsy", sweep.dead, "the exponential in the attention softmax"),
        ("config", sweep.runs, "seed: "),
    ):
        dashboard.locator("tf-tag-filterer input").fill(f"^{tag}/")
        shown = dashboard.locator("tf-category-paginated-view", has_text="Tags matching").locator("tf-text-loader")
        expect(shown).to_have_count(len(runs))
        assert texts(shown.locator("#heading-run")) == of_tensorboard(runs)
        for text in shown.all():
            expect(text).to_contain_text(content)


def test_hparams_has_an_arm_a_row_with_what_was_varied_first(board: Page, sweep: Sweep) -> None:
    table = hparams(board, "Table View").locator("tf-hparams-table-view")
    cells = table.locator("vaadin-grid-cell-content:visible")
    expect(cells.filter(has_text="norm=")).to_have_count(len(sweep.runs) // 2)
    text = cells.all_inner_texts()
    header = [
        cell.strip() for cell in text if "/" in cell or "." in cell or cell.strip() in ("Trial ID", "share that died")
    ]
    assert header[:3] == ["Trial ID", "model/norm", "optimizer.lr"]
    arms = sorted(cell.strip().partition(" (")[0] for cell in text if cell.strip().startswith("norm="))
    assert arms == ["norm=none, lr=0.01", "norm=none, lr=1", "norm=rmsnorm, lr=0.01", "norm=rmsnorm, lr=1"]
    assert not [cell for cell in text if "NaN" in cell]


def test_an_arm_of_hparams_has_the_runs_of_both_seeds(board: Page) -> None:
    table = hparams(board, "Table View").locator("tf-hparams-table-view")
    table.locator("paper-checkbox:visible").last.click()
    charts = table.locator("tf-hparams-session-group-details:visible vz-line-chart2")
    expect(charts).to_have_count(3)
    for chart in charts.all():
        expect(chart.locator(".line-plot:not(.ghost) path")).to_have_count(2)


def test_the_parallel_view_has_a_line_for_every_arm_the_dead_ones_in_red(board: Page) -> None:
    plot = hparams(board, "Parallel Coordinates View").locator("tf-hparams-parallel-coords-plot")
    axes = plot.locator(".axis-title")
    expect(plot.locator(".foreground path")).to_have_count(4)
    assert axes.all_text_contents()[:2] == ["model/norm", "optimizer.lr"]
    assert axes.all_text_contents()[-3:] == ["share that died", "steps survived", "loss, at most the initial one"]
    lines = plot.locator(".foreground path").all()
    assert sorted(line.get_attribute("stroke") or "" for line in lines) == [LIVE_COLOUR] * 2 + [DEAD_COLOUR] * 2
    assert not [line for line in lines if "NaN" in (line.get_attribute("d") or "NaN")]


def test_the_scatter_view_has_a_point_for_every_arm_in_every_cell(board: Page) -> None:
    plot = hparams(board, "Scatter Plot Matrix View").locator("tf-hparams-scatter-plot-matrix-plot")
    cells = plot.locator("g.cell")
    expect(cells.first.locator("circle")).to_have_count(4)
    for cell in cells.all():
        colours = sorted(point.get_attribute("fill") or "" for point in cell.locator("circle").all())
        assert colours == [LIVE_COLOUR] * 2 + [DEAD_COLOUR] * 2
