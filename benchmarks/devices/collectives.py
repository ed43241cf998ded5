"""Seconds of collectives between processes: run as one of them, told its rank by torchrun's variables.

python -m torch.distributed.run --nproc-per-node=2 benchmarks/devices/collectives.py '[["all_reduce", 4096, 1]]'
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

REPEATS = 15


def main() -> None:
    """Print a JSON list of medians, for those that are asked for by kind and bytes."""
    dist.init_process_group("gloo")
    asked = json.loads(sys.argv[1])
    seconds = [median_seconds(kind, num_bytes) for kind, num_bytes, *_ in asked]
    if dist.get_rank() == 0:
        print(json.dumps(seconds))
    dist.barrier()
    dist.destroy_process_group()


def median_seconds(kind: str, num_bytes: int) -> float:
    """All processes start together, and the time is that of rank 0."""
    size = dist.get_world_size()
    share = torch.zeros(max(1, num_bytes // 4 // size))
    whole = torch.zeros(share.numel() * size)
    call = calls(share, whole)[kind]
    measured = []
    for _ in range(REPEATS):
        dist.barrier()
        started = time.perf_counter()
        call()
        measured.append(time.perf_counter() - started)
    return statistics.median(measured)


def calls(share: Tensor, whole: Tensor) -> dict[str, Callable[[], object]]:
    """By kind; ``whole`` is what each process holds at the end, or at the beginning."""
    return {
        "all_reduce": lambda: dist.all_reduce(whole),
        "small_sum": lambda: dist.all_reduce(whole),
        "all_gather": lambda: dist.all_gather_into_tensor(whole, share),
        "reduce_scatter": lambda: dist.reduce_scatter_tensor(share, whole),
    }


if __name__ == "__main__":
    main()
