"""What one run of a process must not hand on to the next."""

import gc
import random

import numpy as np
import torch


def forget_earlier_runs() -> None:
    """Put the state that all runs of a process share back to where a new process has it.

    No run draws from the shared generators, and none should; they are set all the same. Compiled code
    stays: it was made for fixed shapes, and is that which a run would have made for itself. What is there before the
    first run, modules above all, is never looked through for garbage.
    """
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    if gc.get_freeze_count() == 0:
        gc.freeze()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
