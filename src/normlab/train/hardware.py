"""Device and precision, chosen once before the first step."""

import ctypes
import sys
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch

from normlab.core.errors import ConfigError

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""mallopt(3)."""
LARGEST_INT = 2**31 - 1


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU; any other name must be a device that this machine has."""
    name = kind_of(name) if name == "auto" else name
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):  # torch raises either, by backend
        raise ConfigError(
            f"trainer.device must be auto or a device of this machine; got '{name}'. Try trainer.device=auto."
        ) from None
    return device


def device_of_process(name: str, local_rank: int) -> torch.device:
    """The device of one of several processes of a machine: ``cuda`` means that of its number there."""
    kind = kind_of(name)
    if kind not in ("cpu", "cuda"):
        kind = "cpu" if name == "auto" else kind
    return choose_device(f"cuda:{local_rank}" if kind == "cuda" else kind)


def kind_of(name: str) -> str:
    """``cuda`` of ``cuda:1``; of ``auto`` the best that is there: CUDA, then MPS, then the CPU."""
    if name != "auto":
        return name.partition(":")[0]
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def keep_freed_memory() -> None:
    """Have the C library keep the memory of large tensors that are freed, for the next ones; glibc only.

    It would give every tensor of some megabytes back to the operating system, which fills the pages of the next one
    with zeros: in each step again.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGEST_INT)
        mallopt(M_TRIM_THRESHOLD, LARGEST_INT)


def flush_denormals() -> None:
    """Have the CPU take numbers below 1e-38 for zero, in this thread and in those that it starts later.

    Arithmetic with them is tens of times as slow, and a model without norm is full of them.
    """
    for dtype in (np.float32, np.float64):
        np.finfo(dtype)  # numpy looks at the smallest numbers once, and warns where they are zero
    torch.set_flush_denormal(True)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context in which forward passes run: bfloat16 products over float32 weights, or nothing at all."""
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def describe(device: torch.device) -> dict[str, object]:
    """What the run ran on, for the summary."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": str(device), "name": name, "cpu_threads": torch.get_num_threads()}
