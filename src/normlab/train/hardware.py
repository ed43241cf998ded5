"""Device and precision, chosen once before the first step."""

from contextlib import AbstractContextManager, nullcontext

import torch

from normlab.core.errors import ConfigError


def choose_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU; any other name must be a device that this machine has."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError):  # torch raises either, by backend
        raise ConfigError(
            f"trainer.device must be auto or a device of this machine; got '{name}'. Try trainer.device=auto."
        ) from None
    return device


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """The context in which forward passes run: bfloat16 products over float32 weights, or nothing at all."""
    if precision == "bfloat16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def describe(device: torch.device) -> dict[str, object]:
    """What the run ran on, for the summary."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"device": str(device), "name": name, "cpu_threads": torch.get_num_threads()}
