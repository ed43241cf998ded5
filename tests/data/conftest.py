"""A web server in a thread, told by each test how to behave."""

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

Page = Callable[["Exchange"], None]


class Web(ThreadingHTTPServer):
    """A server on 127.0.0.1 whose pages are functions; it remembers what was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.pages: dict[str, Page] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.released = threading.Event()

    def address(self, path: str, page: Page | None = None) -> str:
        """The URL of a path, and from now on what is there."""
        if page is not None:
            self.pages[path] = page
        return f"http://127.0.0.1:{self.server_port}{path}"

    def file(self, path: str, content: bytes, **manners) -> str:
        """The URL of a file that is served with ``manners`` (see `serve_file`)."""
        number = iter(range(1_000_000))
        return self.address(path, lambda exchange: serve_file(exchange, content, next(number), **manners))

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are part of the tests."""


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer."""

    @property
    def web(self) -> Web:
        """The server that this is an exchange with."""
        assert isinstance(self.server, Web)
        return self.server

    def do_GET(self) -> None:
        self.web.asked.append((self.path, self.headers.get("Range")))
        self.web.pages[self.path](self)

    def reply(self, status: int, headers: Mapping[str, str | int], body: bytes = b"") -> None:
        """Send the headers as given, whatever they claim, then the body, then hang up."""
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def hang(self) -> None:
        """Say no more before the test is over, or lets go."""
        self.wfile.flush()
        self.web.released.wait(timeout=20)

    def log_message(self, format: str, *args) -> None:
        """Nothing is printed."""


def serve_file(
    exchange: Exchange,
    content: bytes,
    number: int,
    *,
    validator: tuple[str, str] | None = ("ETag", '"first"'),
    cut_at: Callable[[int, int], int] | None = None,
    with_length: bool = True,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Answer the request of that number as a good server would, but cut at ``cut_at(number, start)``."""
    start, told = 0, dict([validator] if validator else [], **(headers or {}))
    wanted = re.fullmatch(r"bytes=(\d+)-", exchange.headers.get("Range", ""))
    if wanted and validator and exchange.headers.get("If-Range") == validator[1]:
        start = int(wanted[1])
    if start and start >= len(content):
        return exchange.reply(416, {"Content-Range": f"bytes */{len(content)}"})
    if start:
        told["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
    if with_length:
        told["Content-Length"] = str(len(content) - start)
    end = len(content) if cut_at is None else cut_at(number, start)
    exchange.reply(206 if start else 200, told, content[start:end])


@pytest.fixture
def web() -> Iterator[Web]:
    """A running server."""
    server = Web()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.released.set()
    server.shutdown()
    thread.join()
    server.server_close()
