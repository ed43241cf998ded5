"""The report of a sweep in a real browser that has no network: all of it is there, fits, and is sorted on a press."""

from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("playwright", reason="needs Playwright: uv sync")
from playwright.sync_api import Browser, Page
from tests.browser.opened import Opened, opened
from tests.report.made import write_sweep

from normlab.report.page import write_report

pytestmark = pytest.mark.browser

Opener = Callable[..., Page]
BEST_RATE = "Best rate"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(write_sweep(tmp_path_factory.mktemp("made"))).as_uri()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Opener]:
    """Opens the report in a browser with these settings; what it asks of others, and its errors, fail the test."""
    seen: list[Opened] = []

    def open_with(**settings) -> Page:
        seen.append(opened(browser.new_context(offline=True, **settings), address))
        return seen[-1].page

    yield open_with
    for each in seen:
        each.check()
        each.page.context.close()


@pytest.mark.parametrize("width", [1280, 420])
def test_nothing_is_wider_than_the_window(open_page: Opener, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    hanging_over = """width => [...document.querySelectorAll("h1, h2, p, li, img, figcaption, pre")]
        .filter(element => element.getBoundingClientRect().right > width && !element.closest(".wide"))
        .map(element => element.outerHTML.slice(0, 80))"""
    assert page.evaluate(hanging_over, width) == []


@pytest.mark.parametrize("runs_scripts", [True, False])
def test_all_pictures_and_words_are_shown_also_without_scripts(open_page: Opener, runs_scripts: bool) -> None:
    page = open_page(java_script_enabled=runs_scripts)
    widths = page.locator("img").evaluate_all("images => images.map(image => image.complete && image.naturalWidth)")
    assert len(widths) > 10
    assert min(widths) > 100
    assert page.locator("h2").all_inner_texts()[0] == "Verdicts on the claims"
    assert page.locator("h2:visible").count() == page.locator("h2").count()
    assert page.get_by_text("Which of two fixes keeps a model without norms alive?").is_visible()
    assert page.locator("thead th:visible").count() == page.locator("thead th").count() > 0
    assert page.locator("thead button").count() == (page.locator("thead th").count() if runs_scripts else 0)


def test_a_press_on_a_heading_sorts_by_number_and_a_second_one_the_other_way(open_page: Opener) -> None:
    page = open_page()
    heading = page.locator("th", has_text=BEST_RATE).first
    table = page.locator("table", has=page.locator("th", has_text=BEST_RATE)).first
    column = heading.evaluate("heading => heading.cellIndex") + 1
    cells = table.locator(f"tbody td:nth-child({column})")

    def keys() -> list[float]:
        return [float(cell) for cell in cells.evaluate_all("cells => cells.map(cell => cell.dataset.sort ?? 'nan')")]

    before = keys()
    heading.get_by_role("button").click()
    rising = keys()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert rising == sorted(before)
    heading.get_by_role("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert keys() == rising[::-1] != rising


def test_names_are_sorted_as_text(open_page: Opener) -> None:
    page = open_page()
    table = page.locator("table:has(thead)").nth(1)
    names = table.locator("tbody td:first-child")
    before = names.all_inner_texts()
    table.locator("thead button").first.click()
    assert names.all_inner_texts() == sorted(before)
    table.locator("thead button").first.click()
    assert names.all_inner_texts() == sorted(before, reverse=True) != sorted(before)


def test_a_small_window_scrolls_tables_by_themselves(open_page: Opener) -> None:
    page = open_page(viewport={"width": 420, "height": 900})
    shown = page.locator(".wide").evaluate_all("""boxes => boxes.map(box => {
        box.scrollLeft = 10000; return [box.scrollWidth > box.clientWidth, box.scrollLeft > 0]; })""")
    assert any(is_wider for is_wider, _ in shown)
    assert all(is_wider == scrolls for is_wider, scrolls in shown)


def test_a_dark_screen_gets_light_words(open_page: Opener) -> None:
    brightness = """() => getComputedStyle(document.body).color.match(/[0-9.]+/g).slice(0, 3).map(Number)
        .reduce((sum, one) => sum + one)"""
    words = {scheme: open_page(color_scheme=scheme).evaluate(brightness) for scheme in ("light", "dark")}
    assert words["dark"] > 3 * 128 > words["light"]
