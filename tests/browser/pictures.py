"""Pictures of a sweep in TensorBoard, for the documentation.

``python -m tests.browser.pictures <sweep> <folder> [<regular expression of runs>]``
"""

import json
import sys
from pathlib import Path

from playwright.sync_api import Page, expect
from tests.browser.opened import TIMEOUT_MS, launched, opened, served

WINDOW = {"width": 1180, "height": 820}
RATE = "optimizer.lr"
SETTLING_MS = 5_000
"""Charts fade in; nothing on the page says when that is over."""


def main(sweep: Path, folder: Path, runs: str = "") -> None:
    """Write curves.png, of the runs whose names the regular expression matches, and parallel.png, of all."""
    expect.set_options(timeout=TIMEOUT_MS)
    folder.mkdir(parents=True, exist_ok=True)
    with served(sweep) as address, launched() as browser:
        page = opened(browser.new_context(viewport=WINDOW), f"{address}#custom_scalars").page  # type: ignore[arg-type]
        curves(page, folder / "curves.png", runs)
        page.goto(f"{address}#hparams")
        parallel(page, folder / "parallel.png", {*json.loads((sweep / "sweep.json").read_text())["varied"], RATE})


def curves(page: Page, path: Path, runs: str) -> None:
    """Losses and activations by layer, as Custom Scalars groups them."""
    dashboard = page.locator("tf-custom-scalar-dashboard")
    expect(dashboard.locator("tf-custom-scalar-multi-line-chart-card").first).to_be_visible()
    dashboard.locator("tf-runs-selector input").first.fill(runs)
    _take(page, path)


def parallel(page: Page, path: Path, varied: set[str]) -> None:
    """An arm a line: what was varied, and how it ended."""
    page.locator("tf-hparams-main paper-tab", has_text="Parallel").click()
    plot = page.locator("tf-hparams-parallel-coords-plot")
    expect(plot.locator(".foreground path").first).to_be_attached()
    for box in reversed(page.locator(".hparam-checkbox[checked]").all()):
        if box.inner_text().strip() not in varied:
            box.click()
    page.locator(f'[id="logScaleButton_{RATE}"]:visible').click()
    _take(page, path)


def _take(page: Page, path: Path) -> None:
    page.wait_for_timeout(SETTLING_MS)
    page.screenshot(path=path, timeout=TIMEOUT_MS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
