"""The memory that training takes at most on CPU, told by a process of its own."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from hydra import initialize_config_dir

from normlab.app.options import CONFIG_FOLDER
from normlab.app.resolvers import register_resolvers
from normlab.train.hardware import keep_freed_memory
from training.contestants import Settings, entered
from training.shapes import Shape

NUM_STEPS = 3


def peak_bytes(name: str, settings: Settings | None, shape: Shape, num_threads: int) -> int:
    """On CPU: how far a new process grows beyond what it has imported, while it takes steps after the first.

    The compiler's transient memory is left out, what it keeps is in.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_of_this_process, name, settings, shape, num_threads).result()


def _peak_of_this_process(name: str, settings: Settings | None, shape: Shape, num_threads: int) -> int:
    torch.set_num_threads(num_threads)
    register_resolvers()
    keep_freed_memory()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3", job_name="normlab"):
        before = _status_bytes("VmRSS")
        contestant = entered(name, settings, shape, torch.device("cpu"))
        contestant.check()
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest mark so far
        for _ in range(NUM_STEPS):
            contestant.step()
        return _status_bytes("VmHWM") - before


def _status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))
