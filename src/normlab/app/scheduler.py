"""Jobs that submitit has queued on a cluster: what becomes of one that is asked to stop."""

import os
import signal

AGAIN = signal.SIGUSR2
"""What SLURM is told to send to a job whose time is nearly over; submitit's own handler has the job queued again."""


def is_queued_job() -> bool:
    """Whether submitit has started this process as a job of a scheduler."""
    return "SUBMITIT_EXECUTOR" in os.environ


def leave_to_scheduler(signal_number: int) -> None:
    """End the job of a run that a signal has stopped and that can be gone on with, so that it is no result.

    Whoever waits for the job then waits on. After SIGUSR2 submitit queues it again; after SIGTERM, by which SLURM
    preempts jobs, SLURM itself does.
    """
    if signal_number == AGAIN:
        signal.raise_signal(AGAIN)
    raise SystemExit(128 + signal_number)
