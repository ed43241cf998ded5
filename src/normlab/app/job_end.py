"""How a job ended, as the process that it ran in tells the one that launched it."""

from typing import NamedTuple

STOPPED = 128
"""Exit codes from here on: a signal asked the run to stop, and the sweep with it."""


class JobEnd(NamedTuple):
    """``reason`` is the line that was said where the job has no result, unless the run's summary holds it."""

    exit_code: int
    reason: str | None = None
