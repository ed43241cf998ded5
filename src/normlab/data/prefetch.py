"""Batches made ahead of the training thread."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, Self, TypeVar

from normlab.core.errors import ConfigError

Made = TypeVar("Made")


class Prefetcher(Generic[Made]):
    """Calls ``make_batch`` for ``first_step``, ``first_step`` + 1, ... in one thread, at most ``depth`` steps ahead.

    Each call hands out the next step's batch, so the results are those of ``make_batch``, in order. What it raises
    is raised by the call for that step, and by every later one. ``depth`` batches are held at most. To be used as a
    context manager, or closed: then the thread has ended.
    """

    def __init__(self, make_batch: Callable[[int], Made], *, first_step: int, depth: int):
        if depth < 1:
            raise ConfigError(f"The depth of prefetching must be a whole number of at least 1; got {depth}.")
        self._make_batch = make_batch
        self._step = first_step
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._ahead: deque[Future[Made]] = deque()
        for step in range(first_step, first_step + depth):
            self._ahead.append(self._executor.submit(make_batch, step))

    def __call__(self, step: int) -> Made:
        """The batch of ``step``, which must be the one after the last call's."""
        if not self._ahead:
            raise ValueError("A prefetcher that is closed has no more batches.")
        if step != self._step:
            raise ValueError(f"Batches are handed out in order; the next step is {self._step}, got {step}.")
        batch = self._ahead[0].result()
        self._ahead.append(self._executor.submit(self._make_batch, step + len(self._ahead)))
        self._ahead.popleft()
        self._step += 1
        return batch

    def close(self) -> None:
        """Drop what was made ahead and end the thread, after the batch that it is making."""
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

    def __enter__(self) -> Self:
        """Itself: the thread runs already."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close."""
        self.close()
