"""A world of several processes, over gloo for what lies on CPUs and NCCL for what lies on CUDA devices."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, TCPStore

from normlab.core.errors import ConfigError, UserError
from normlab.train.distributed.place import Place
from normlab.train.distributed.watch import PeerLost, Watch
from normlab.train.distributed.world import ALONE, Made, MainFailed, World

MEETING_PATIENCE = timedelta(minutes=10)
PATIENCE = timedelta(days=7)
"""For one another within a run: rank 0 may prepare data for hours, and who is gone is told by the watch."""
OF_NETWORK = re.compile("gloo|nccl|peer|connection|socket|store|broken pipe|process group|abort", re.IGNORECASE)
CRASH, WRONG_INPUT = 1, 2


class Group(World):
    """What :class:`World` says, for the processes of torch's default group.

    Numbers go through tensors on the CPU, text as bytes: no pickle. Maxima are taken of what was gathered, because a
    backend's own may lose a NaN.
    """

    def __init__(self, place: Place, watch: Watch):
        self.rank, self.size = place.rank, place.size
        self.local_rank, self.local_size = place.local_rank, place.local_size
        self._watch = watch
        self._has_failed_together = False
        self._is_abandoned = False

    def mean(self, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total / self.size

    def sums(self, values: Sequence[float]) -> list[float]:
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def gathered(self, values: Tensor) -> Tensor:
        parts = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(parts, values.contiguous())
        return torch.stack(parts)

    def largest(self, number: int) -> int:
        largest = torch.tensor(number)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def from_main(self, make: Callable[[], Made]) -> Made:
        if not self.is_main:
            told = json.loads(self._text_of_main(""))
            if "exit_code" in told:
                self._has_failed_together = True
                raise MainFailed(told["exit_code"])
            return told["made"]
        try:
            made = make()
        except BaseException as error:
            self._has_failed_together = True
            self._text_of_main(json.dumps({"exit_code": WRONG_INPUT if isinstance(error, UserError) else CRASH}))
            raise
        self._text_of_main(json.dumps({"made": made}))
        return made

    def main_first(self, make: Callable[[], Made]) -> Made:
        made: list[Made] = []
        self.from_main(lambda: made.append(make()))
        return made[0] if self.is_main else make()

    def abandon(self) -> None:
        self._is_abandoned = not self._has_failed_together

    def explained(self, error: Exception) -> Exception:
        if isinstance(error, UserError | PeerLost | MainFailed) or OF_NETWORK.search(str(error)) is None:
            return error
        return self._watch.verdict() or error

    def part(self) -> None:
        """Wait for all others to be done, then watch over them no longer."""
        if self._is_abandoned:
            return
        dist.barrier()
        self._watch.end()
        dist.barrier()
        dist.destroy_process_group()

    def _text_of_main(self, text: str) -> str:
        content = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length = torch.tensor(len(content))
        dist.broadcast(length, src=0)
        if not self.is_main:
            content = torch.empty(int(length), dtype=torch.uint8)
        dist.broadcast(content, src=0)
        return bytes(content.tolist()).decode()


_world: ContextVar[World] = ContextVar("world", default=ALONE)


def this_world() -> World:
    """That of this process: :data:`ALONE`, or within :func:`joined` the group."""
    return _world.get()


@contextmanager
def joined(place: Place | None) -> Iterator[World]:
    """While inside, this process is one of a group; at the end it waits for the others, but not where it has failed.

    Raises PeerLost, which names the process, where another one is gone. Without a place, or in a place for one,
    nothing happens.
    """
    if place is None or place.size == 1:
        yield this_world()
        return
    group = _meet(place)
    before = _world.set(group)
    try:
        yield group
        group.part()
    except Exception as error:
        explained = group.explained(error)
        if explained is error:
            raise
        raise explained from None
    finally:
        _world.reset(before)


def _meet(place: Place) -> Group:
    try:
        store: Any = TCPStore(place.address, place.port, place.size, place.hosts_store, MEETING_PATIENCE)
        own, of_watch = (PrefixStore(f"normlab/{place.attempt}", each) for each in (store, store.clone()))
        watch = Watch(own, of_watch, place)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, store=own, rank=place.rank, world_size=place.size, timeout=PATIENCE)
        dist.barrier()
    except RuntimeError as error:
        raise ConfigError(
            f"All {place.size} processes must meet at {place.address}:{place.port}; rank {place.rank} did not "
            f"({next(iter(str(error).splitlines()), '')[:200]}). Type torchrun --standalone --nproc-per-node=…"
        ) from None
    watch.begin()
    return Group(place, watch)
