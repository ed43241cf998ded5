"""Which process of a run is gone: each looks after the others, for a collective that fails or hangs does not say."""

import json
import os
import socket
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from normlab.train.distributed.place import AGENT_HAS_STORE, Place

LOOK_SECONDS = 1.0
SILENT_LOOKS = 40
"""After how many looks a process of another machine whose counter stands still is taken for gone."""
PATIENCE_SECONDS = 50.0
GRACE_SECONDS = 8.0
"""In which a process that has heard of it can end by itself: a collective may hang for ever."""
CRASH = 1
GONE, TELLER = "gone", "teller"


class PeerLost(Exception):
    """Another process of the run is gone; the message names it. ``is_told``: another one says so already."""

    def __init__(self, line: str, *, is_told: bool):
        super().__init__(line)
        self.is_told = is_told


@dataclass(frozen=True)
class Member:
    """One of the processes. Those of one ``space`` see one another's process ids."""

    rank: int
    host: str
    process: int
    space: str

    @classmethod
    def this(cls, rank: int) -> "Member":
        """This process."""
        host = socket.gethostname()
        return cls(rank, host, os.getpid(), f"{host} {_link('/proc/self/ns/pid')}")

    def __str__(self) -> str:
        return f"rank {self.rank} (process {self.process} on {self.host})"


class Watch:
    """A thread that looks once a second whether the other processes are there.

    One on the same machine is gone when its process is; one elsewhere when the counter that it keeps in the store
    stands still; rank 0, where the store is its own, when that is. Who finds it tells the others through the store.
    """

    def __init__(self, store: Any, own_store: Any, place: Place):
        self._place = place
        self._store = own_store  # a connection of its own: a wait on the other one would hold up its looks
        self._this = Member.this(place.rank)
        store.set(_member(place.rank), json.dumps(asdict(self._this)))
        self._members = [Member(**json.loads(store.get(_member(rank)))) for rank in range(place.size)]
        self._counters: dict[int, tuple[bytes, int]] = {}
        self._found: PeerLost | None = None
        self._is_over, self._is_found = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watch", daemon=True)

    def begin(self) -> None:
        """Start looking."""
        self._thread.start()

    def end(self) -> None:
        """Stop looking."""
        self._is_over.set()
        self._thread.join()

    def verdict(self) -> PeerLost | None:
        """Who is gone; waits as long as it may take to find out. None where nobody is."""
        self._is_found.wait(PATIENCE_SECONDS)
        return self._found

    def _watch(self) -> None:
        looks = 0
        while not self._is_over.wait(LOOK_SECONDS):
            looks += 1
            self._found = self._look(looks)
            if self._found is None:
                continue
            self._is_found.set()
            if not self._is_over.wait(GRACE_SECONDS):
                self._end_at_once(self._found)
            return

    def _look(self, looks: int) -> PeerLost | None:
        """Who is gone: the first that anybody has found, for those that end because of it are gone soon too."""
        try:
            self._store.set(_counter(self._place.rank), str(looks))
            found = self._store.get(GONE).decode() if self._store.check([GONE]) else self._who_is_gone(looks)
            if found is None:
                return None
            first = self._store.compare_set(GONE, "", found).decode()
            is_main_there = first != str(self._members[0])
            own = str(self._place.rank)
            is_told = self._place.rank != 0 and (
                is_main_there or self._store.compare_set(TELLER, "", own).decode() != own
            )
        except RuntimeError:
            first, is_told = self._host_of_store(), self._place.rank > 1
        return PeerLost(f"{first} is gone, so that the run cannot go on", is_told=is_told)

    def _host_of_store(self) -> str:
        has_agent = os.environ.get(AGENT_HAS_STORE) == "True"
        return f"torchrun on {self._members[0].host}" if has_agent else str(self._members[0])

    def _who_is_gone(self, looks: int) -> str | None:
        others = [member for member in self._members if member.rank != self._place.rank]
        here = [member for member in others if member.space == self._this.space]
        gone = next((member for member in here if not _is_running(member.process)), None)
        if gone is not None:
            return str(gone)
        away = [member for member in others if member.space != self._this.space]
        if self._place.rank != 0:  # rank 0 looks at all, all others at rank 0
            away = [member for member in away if member.rank == 0]
        return next((str(member) for member in away if self._stands_still(member, looks)), None)

    def _stands_still(self, member: Member, looks: int) -> bool:
        key = _counter(member.rank)
        counter = self._store.get(key) if self._store.check([key]) else b""
        before, since = self._counters.setdefault(member.rank, (counter, looks))
        if counter != before:
            self._counters[member.rank] = (counter, looks)
        return counter == before and looks - since > SILENT_LOOKS

    def _end_at_once(self, lost: PeerLost) -> None:
        """The main thread hangs in a collective. What is written is whole or torn as by a kill, which resume knows."""
        if not lost.is_told:
            print(f"error: {lost}", file=sys.__stderr__, flush=True)
        os._exit(CRASH)


def _is_running(process: int) -> bool:
    """Whether there is such a process, and it is more than an entry that nobody has asked for yet."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return True
    return state not in ("Z", "X")


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _member(rank: int) -> str:
    return f"member/{rank}"


def _counter(rank: int) -> str:
    return f"counter/{rank}"
