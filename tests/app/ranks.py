"""The processes of one run on many devices, forked from a server that has imported everything: there in a moment."""

import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.app.killing import ROOT, SLOW_TO_IMPORT, _become

ALSO_SLOW = ("torch.distributed.tensor", "torch.distributed.fsdp", "torch.nn.parallel")


class Ranks:
    """Starts the processes of one run at a time in a folder; what they say is kept in its file ``said.txt``."""

    def __init__(self) -> None:
        paths = [str(ROOT), str(ROOT / "src"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
        self._server = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OPENBLAS_NUM_THREADS": "1"},
        )

    def start(self, folder: Path, size: int, *arguments: str, deaths: dict[int, Any] | None = None) -> list[int]:
        """Start ``size`` processes, or without ranks a single one for 0; return their ids. ``deaths``: by rank."""
        fatal = {rank: {"kind": type(death).__name__, **vars(death)} for rank, death in (deaths or {}).items()}
        return self._ask({"folder": str(folder), "size": size, "arguments": arguments, "deaths": fatal})

    def wait(self) -> list[int]:
        """The exit codes of those started last, once all have ended."""
        return self._ask(None)

    def to_the_end(self, folder: Path, size: int, *arguments: str, deaths: dict[int, Any] | None = None) -> list[int]:
        """Start and wait."""
        self.start(folder, size, *arguments, deaths=deaths)
        return self.wait()

    def _ask(self, request: Any) -> list[int]:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.communicate()


def serve() -> None:
    """Fork processes for every request on standard input; one that has ended keeps its id until asked for."""
    for module in (*SLOW_TO_IMPORT, *ALSO_SLOW):
        importlib.import_module(module)
    gc.freeze()
    processes: list[int] = []
    for line in sys.stdin:
        request = json.loads(line)
        if request is None:
            answer = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
        else:
            answer = processes = _fork(**request)
        print(json.dumps(answer), flush=True)


def _fork(folder: str, size: int, arguments: Sequence[str], deaths: dict[str, Any]) -> list[int]:
    port = _free_port()
    processes = []
    for rank in range(max(size, 1)):
        process = os.fork()
        if process == 0:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if size > 0:
                place = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "MASTER_PORT": port}
                os.environ.update({key: str(value) for key, value in place.items()}, MASTER_ADDR="127.0.0.1")
            _become(folder, arguments, deaths.get(str(rank)))
        processes.append(process)
    return processes


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
