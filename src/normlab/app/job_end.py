"""How a job ended, as the process that it ran in tells the one that launched it."""

from typing import NamedTuple


class JobEnd(NamedTuple):
    """``reason`` is the line that was said where the job has no result, unless the run's summary holds it."""

    exit_code: int
    reason: str | None = None
