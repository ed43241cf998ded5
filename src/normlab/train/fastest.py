"""What a machine trains fastest with: measured where machines differ, for ``trainer=auto``."""

import os
import shutil
import sysconfig
import time
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

from normlab.train.hardware import kind_of

GAIN = 1.25
"""How much faster bfloat16 must be to be chosen: it is less exact, and a measurement is never quite steady."""
SIZE, NUM_PRODUCTS = 1024, 5
CHOSEN = "NORMLAB_PRECISION"
"""The environment variable that holds the choice, so that all processes of a sweep make the same one."""


def fastest_precision(device: str) -> str:
    """``bfloat16`` where its matrix products are at least ``GAIN`` times as fast as those of float32, else ``float32``.

    Some processors multiply bfloat16 at twice the rate of float32, some at half
    of it; their lists of features do not tell.
    """
    if CHOSEN not in os.environ:
        rates = matmul_rates(kind_of(device))
        is_faster = bool(rates) and rates["bfloat16"] >= GAIN * rates["float32"]
        os.environ[CHOSEN] = "bfloat16" if is_faster else "float32"
    return os.environ[CHOSEN]


def can_compile(device: str) -> bool:
    """Whether torch.compile finds what it needs: on the CPU a C++ compiler and Python's headers, on CUDA Triton."""
    if kind_of(device) == "cuda":
        return find_spec("triton") is not None
    has_compiler = any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++"))
    return kind_of(device) == "cpu" and has_compiler and (Path(sysconfig.get_path("include")) / "Python.h").is_file()


@cache
def matmul_rates(kind: str) -> dict[str, float]:
    """Products of square matrices in FLOP/s by precision, the best of several; a moment's work.

    Empty where the device is not there, or of a kind whose rates decide nothing.
    """
    if kind != "cpu" and not (kind == "cuda" and torch.cuda.is_available()):
        return {}
    return {name: _rate(getattr(torch, name), kind) for name in ("float32", "bfloat16")}


def _rate(dtype: torch.dtype, device: str) -> float:
    matrix = torch.ones(SIZE, SIZE, dtype=dtype, device=device)
    seconds = []
    for _ in range(1 + NUM_PRODUCTS):  # the first chooses its kernel
        started = time.perf_counter()
        (matrix @ matrix)[0, 0].item()
        seconds.append(time.perf_counter() - started)
    return 2 * SIZE**3 / min(seconds[1:])
