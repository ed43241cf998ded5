"""Fixtures of the tests that open pages: a small sweep of which half dies, its TensorBoard, and a browser."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from playwright.sync_api import Browser

RUN = Path(__file__).parents[2] / "src" / "run.py"
SMALL = (
    "model=micro", "tokenizer=bytes", "data=text", "data.train=[a.txt]", "data.valid=c.txt", "trainer.steps=8",
    "trainer.val_every=4", "trainer.val_tokens=256", "schedule.warmup_steps=2", "telemetry.every=2",
)  # fmt: skip
VARIED = ("attention/softmax=naive", "model/norm=rmsnorm,none", "optimizer.lr=1e-2,1", "seed=0,1")


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder, and the names of its runs."""

    folder: Path
    completed: list[str]
    dead: list[str]

    @property
    def runs(self) -> list[str]:
        """All of them."""
        return self.completed + self.dead


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium, driven by Playwright."""
    pytest.importorskip("playwright", reason="needs Playwright: uv sync")
    from tests.browser.opened import CHROMIUM, launched

    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with launched() as found:
        yield found


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Two norms at two rates, two seeds each; at the larger rate the naive softmax overflows.

    Made once, also where several processes run the tests.
    """
    own = tmp_path_factory.getbasetemp()
    home = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "browsed"
    with FileLock(f"{home}.lock"):
        if not (home / "sweep" / "report" / "index.html").is_file():
            make_sweep(home)
    names = sorted(path.name for path in (home / "sweep").glob("norm=*"))
    found = Sweep(
        home / "sweep",
        completed=[name for name in names if "lr=0.01," in name],
        dead=[name for name in names if (home / "sweep" / name / "autopsy.md").is_file()],
    )
    assert (len(found.completed), len(found.dead), len(names)) == (4, 4, 8)
    return found


def make_sweep(home: Path) -> None:
    """Run the sweep in a new folder."""
    home.mkdir()
    (home / "a.txt").write_text("The cat sat on the mat. " * 100)
    (home / "c.txt").write_text("The dog sat on the cat. " * 100)
    command = [sys.executable, str(RUN), "--multirun", *SMALL, *VARIED, "hydra.sweep.dir=sweep"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
