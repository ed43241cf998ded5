"""Whether a model fits into memory, asked before it is built: Linux promises more than there is, then kills."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from normlab.train.distributed.world import ALONE, World

MEMORY, LIMIT = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
NUM_COPIES = 2
"""A weight and its gradient: the least that training takes, whatever the optimizer."""


def check_memory(make_model: Callable[[], nn.Module], world: World = ALONE, *, are_spread: bool = False) -> None:
    """Raise MemoryError where the weights of a model and their gradients alone are more than what is free.

    Processes of one machine share it. Where weights ``are_spread`` over the world each process has its part of both,
    but is made with all weights before it gives up the others'. A model with a part that computes with its weights as
    it is made cannot be counted, and is let through.
    """
    free = free_bytes()
    try:
        with torch.device("meta"):
            model = make_model()
    except RuntimeError:
        return
    weights = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    copies = max(1, NUM_COPIES / world.size) if are_spread else NUM_COPIES
    needed = world.local_size * copies * weights
    if free is not None and needed > free:
        raise MemoryError(f"weights and gradients take {needed / 1e9:,.1f} GB, and {free / 1e9:,.1f} GB are free")


def free_bytes() -> int | None:
    """What this process can still get, swap too; None where the system does not say."""
    try:
        lines = (line.split() for line in MEMORY.read_text().splitlines())
        kilobytes = {words[0]: int(words[1]) for words in lines if words[0] in ("MemAvailable:", "SwapFree:")}
        limit = LIMIT.read_text().strip() if LIMIT.is_file() else "max"
    except (OSError, ValueError, IndexError):
        return None
    free = 1024 * sum(kilobytes.values())
    return free if limit == "max" else min(free, int(limit))
