"""Which of how many processes this one is, as whoever started it says: torchrun, or a job of submitit's."""

import os
from typing import NamedTuple

FROM_TORCHRUN = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
IN_SUBMITIT = "SUBMITIT_EXECUTOR"
AGENT_HAS_STORE = "TORCHELASTIC_USE_AGENT_STORE"


class Place(NamedTuple):
    """Process ``rank`` of ``size``, the ``local_rank``-th of ``local_size`` on its machine; where all of them meet.

    ``hosts_store``: the meeting place is this process itself. ``attempt`` counts torchrun's restarts.
    """

    rank: int
    size: int
    local_rank: int
    address: str
    port: int
    hosts_store: bool
    attempt: str
    local_size: int = 1


def place_in_torchrun() -> Place | None:
    """From torchrun's variables; None for a process that was started by itself."""
    if IN_SUBMITIT in os.environ or any(name not in os.environ for name in FROM_TORCHRUN):
        return None
    return _from_environment()


def place_in_job() -> Place | None:
    """From submitit's; None outside of its jobs, and in one of a single task."""
    if IN_SUBMITIT not in os.environ:
        return None
    from submitit.helpers import TorchDistributedEnvironment  # an extra: where its job runs, it is installed

    found = TorchDistributedEnvironment()
    if found.world_size == 1:
        return None
    found.export(set_cuda_visible_devices=False, overwrite=True)
    return _from_environment()


def _from_environment() -> Place:
    rank = int(os.environ["RANK"])
    return Place(
        rank=rank,
        size=int(os.environ["WORLD_SIZE"]),
        local_rank=int(os.environ.get("LOCAL_RANK", rank)),
        address=os.environ["MASTER_ADDR"],
        port=int(os.environ["MASTER_PORT"]),
        hosts_store=rank == 0 and os.environ.get(AGENT_HAS_STORE) != "True",
        attempt=os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"),
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
    )
