"""A real TensorBoard server, and a real Chromium that reaches this machine alone."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, sync_playwright

CHROMIUM = shutil.which("chromium")
TIMEOUT_MS = 120_000
"""Long: the machine may be busy."""
SOFTWARE_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""TensorBoard's page *Time Series* draws its lines with WebGL."""
NOBODY_ELSE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


@dataclass
class Opened:
    """A page, what it asked of anyone but ``home``, and what it complained about."""

    page: Page
    home: str
    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.set_default_timeout(TIMEOUT_MS)
        self.page.on("request", self._note_request)
        self.page.on("console", self._note_message)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def check(self) -> None:
        """Fail where the page needed anyone else, or went wrong."""
        assert self.outside == []
        assert self.errors == []

    def _note_request(self, request: Request) -> None:
        if not request.url.startswith((self.home, "data:", "blob:")):
            self.outside.append(request.url)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)


@contextmanager
def launched() -> Iterator[Browser]:
    """Debian's Chromium without a window."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*SOFTWARE_WEBGL, NOBODY_ELSE], chromium_sandbox=False, timeout=TIMEOUT_MS
        )
        try:
            yield browser
        finally:
            browser.close()


def opened(context: BrowserContext, home: str) -> Opened:
    """A new page at ``home``."""
    seen = Opened(context.new_page(), home)
    seen.page.goto(home, timeout=TIMEOUT_MS)
    return seen


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """A TensorBoard server of the folder on a free port: its address, and the folder's name alone on the page."""
    command = [sys.executable, "-m", "tensorboard.main", "--host", "127.0.0.1", "--port", "0", "--logdir", folder.name]
    with subprocess.Popen(
        command, cwd=folder.parent, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            yield _address(server)
        finally:
            server.terminate()


def _address(server: "subprocess.Popen[str]") -> str:
    assert server.stderr is not None
    said = ""
    for line in server.stderr:
        said += line
        found = re.search(r"http://\S+", line.partition(" at ")[2])
        if found:
            return found[0]
    raise RuntimeError(f"TensorBoard did not start: {said}")
