"""A polite stop: the first SIGINT, SIGTERM or SIGHUP asks, the second SIGINT is obeyed at once."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from normlab.app.scheduler import AGAIN, is_queued_job

ECHO_SECONDS = 0.5  # a wrapper such as uv may hand on a signal that the terminal has sent to both


class StopRequest:
    """Which signal asked the run to stop, if any."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._asked_at = 0.0

    @property
    def exit_code(self) -> int:
        """128 plus the signal's number, as shells report it."""
        return 128 + (self.signal_number or signal.SIGINT)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While inside, the signals are noted here instead of ending the process (in the main thread).

        A SIGHUP that is ignored, as under ``nohup``, stays so.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        heard = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
            heard.append(signal.SIGHUP)
        if is_queued_job():
            heard.append(AGAIN)
        before = {number: signal.signal(number, self.ask) for number in heard}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def ask(self, signal_number: int, frame: FrameType | None) -> None:
        """Remember the signal; a SIGINT that comes later than an echo of the first raises KeyboardInterrupt."""
        now = time.monotonic()
        if self.signal_number is None:
            self.signal_number, self._asked_at = signal_number, now
        elif signal_number == signal.SIGINT and now - self._asked_at > ECHO_SECONDS:
            raise KeyboardInterrupt
