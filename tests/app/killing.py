"""Processes of ``python src/run.py`` that die of a real SIGKILL: at a point that is chosen, or when somebody says so.

A server imports everything once, trains nothing, and forks a fresh process for every command: it is there in a moment.
"""

import contextlib
import gc
import importlib
import json
import math
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

ROOT = Path(__file__).resolve().parents[2]
ENTRY = ROOT / "src" / "run.py"
SAID = "said.txt"
SLOW_TO_IMPORT = (
    "normlab.app.cli",
    "normlab.app.tasks.train",
    "normlab.telemetry.figure_of_activations",
    "normlab.telemetry.figure_of_attention",
    "matplotlib.backends.backend_agg",
    "torch._dynamo",
)
CHANGES = ("open", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate")
"""The audit events of Python that change a disk, an ``open`` only where it is for writing."""
TORN_BYTES = 40


@dataclass(frozen=True)
class AtCall:
    """Die in the ``nth`` call of ``function`` (a dotted name, as its caller finds it).

    ``before`` it, ``after`` it, or when all but the last bytes of the file that it writes are on the disk: ``torn``.
    With another ``number`` that signal is sent instead, which a process may outlive.
    """

    function: str
    nth: int = 1
    moment: Literal["before", "after", "torn"] = "before"
    number: int = signal.SIGKILL


@dataclass(frozen=True)
class AtChange:
    """Die before the ``nth`` change of the disk, counted from the first whose path has ``since`` in it."""

    nth: int
    since: str = ""


@dataclass(frozen=True)
class NanFrom:
    """Do not die, but have the ``nth`` call of ``function``, which returns a tensor, return NaN."""

    function: str
    nth: int


Death = AtCall | AtChange


class Runs:
    """Starts one command at a time in a folder; what the commands say is kept in its file ``said.txt``."""

    def __init__(self) -> None:
        paths = [str(ROOT), str(ROOT / "src"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        self._server = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"},
        )

    def start(self, folder: Path, *arguments: str, death: Death | None = None) -> int:
        """Start ``python src/run.py`` with the arguments in ``folder``; return the process id."""
        fatal = None if death is None else {"kind": type(death).__name__, **asdict(death)}
        return self._ask({"folder": str(folder), "arguments": arguments, "death": fatal})

    def wait(self) -> int:
        """The exit code of the command started last, once it has ended: -9 where SIGKILL ended it."""
        return self._ask(None)

    def to_the_end(self, folder: Path, *arguments: str, death: Death | None = None) -> int:
        """Start and wait."""
        self.start(folder, *arguments, death=death)
        return self.wait()

    def _ask(self, request: Any) -> int:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.communicate()


def serve() -> None:
    """Fork a process for every request on standard input; a process that has ended keeps its id until asked for."""
    for module in SLOW_TO_IMPORT:
        importlib.import_module(module)
    gc.freeze()  # so that no process looks through all that was imported
    process = 0
    for line in sys.stdin:
        request = json.loads(line)
        if request is None:
            answer = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        else:
            answer = process = os.fork()
            if process == 0:
                _become(request["folder"], request["arguments"], request["death"])
        print(answer, flush=True)


def _become(folder: str, arguments: Sequence[str], death: dict[str, Any] | None) -> None:
    """Be the process of one command, from its folder to its exit code."""
    os.chdir(folder)
    with open(SAID, "ab") as said, open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    code = 1
    try:
        sys.argv = [str(ENTRY), *arguments]
        if death is not None:
            {"AtCall": _die_at_call, "AtChange": _die_at_change, "NanFrom": _nan_from}[death.pop("kind")](**death)
        runpy.run_path(str(ENTRY), run_name="__main__")
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _die_at_call(function: str, nth: int, moment: str, number: int) -> None:
    place, _, name = function.rpartition(".")
    owner = pkgutil.resolve_name(place)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def fatal(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        is_fatal = calls == nth  # more calls may come within this one
        if is_fatal and moment == "before":
            _send(number)
        result = original(*arguments, **keywords)
        if is_fatal and moment == "torn":
            _tear(_written_file(arguments))
        if is_fatal and moment != "before":
            _send(number)
        return result

    setattr(owner, name, fatal)


def _die_at_change(nth: int, since: str) -> None:
    changes = 0

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal changes
        if event not in CHANGES or (event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        if changes > 0 or any(since in str(argument) for argument in arguments):
            changes += 1
        if changes == nth:
            _send(signal.SIGKILL)

    sys.addaudithook(watch)


def _nan_from(function: str, nth: int) -> None:
    place, _, name = function.rpartition(".")
    owner = pkgutil.resolve_name(place)
    original: Callable[..., Any] = getattr(owner, name)
    calls = 0

    def sometimes_nan(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        return original(*arguments, **keywords) * (math.nan if calls == nth else 1)

    setattr(owner, name, sometimes_nan)


def _written_file(arguments: Sequence[Any]) -> Path:
    """The file that a call writes: a path among its arguments, or that of the object that it belongs to."""
    paths = [argument for argument in arguments if isinstance(argument, Path)]
    return paths[0] if paths else arguments[0]._path


def _tear(file: Path) -> None:
    os.truncate(file, max(0, file.stat().st_size - TORN_BYTES))


def _send(number: int) -> None:
    os.kill(os.getpid(), number)
    if number == signal.SIGKILL:
        time.sleep(60)  # until the kernel has taken every thread
