"""A process of a launcher ends with the one that started it: started again, the sweep would meet it at work."""

import os
import signal
import threading
import time
from functools import cache

LOOK_SECONDS = 1.0


@cache
def end_with_parent() -> None:
    """From now on this process is killed when its parent has ended; what it has saved is gone on with."""
    threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)
