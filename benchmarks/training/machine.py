"""The machine: what it is, what it multiplies at most, and when it has finished."""

import platform
import statistics
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

CPU_SHAPES = [(1024, 1024, 1024), (2048, 2048, 2048), (2048, 512, 10_000)]
CUDA_SHAPES = [(4096, 4096, 4096), (8192, 8192, 8192), (16_384, 4096, 8192)]
NUM_PRODUCTS = 2
PRECISIONS = ("float32", "bfloat16")


def synchronise(device: torch.device) -> None:
    """Wait for what has been launched."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Peak:
    """The rate of matrix products in FLOP/s, measured now and again; ``rates`` by precision, one value a measurement.

    A value is the best over shapes and repetitions.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.rates: dict[str, list[float]] = {name: [] for name in PRECISIONS}
        shapes = CUDA_SHAPES if device.type == "cuda" else CPU_SHAPES
        self._operands = {
            name: [
                (
                    torch.randn(m, k, dtype=getattr(torch, name), device=device),
                    torch.randn(k, n, dtype=getattr(torch, name), device=device),
                )
                for m, k, n in shapes
            ]
            for name in PRECISIONS
        }
        self.measure()  # the first products choose their kernels
        self.rates = {name: [] for name in PRECISIONS}

    def measure(self) -> None:
        """Once more."""
        for name, operands in self._operands.items():
            self.rates[name].append(max(self._rate(left, right) for left, right in operands))

    def _rate(self, left: torch.Tensor, right: torch.Tensor) -> float:
        repeats = 10 if self.device.type == "cuda" else 1
        best = float("inf")
        for _ in range(NUM_PRODUCTS):
            synchronise(self.device)
            started = time.perf_counter()
            for _ in range(repeats):
                torch.matmul(left, right)
            synchronise(self.device)
            best = min(best, (time.perf_counter() - started) / repeats)
        return 2 * left.shape[0] * left.shape[1] * right.shape[1] / best

    def median(self, precision: str) -> float:
        return statistics.median(self.rates[precision])


def describe_machine(device: torch.device) -> dict[str, str]:
    """Processor or accelerator, versions, and the commit."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    packages = {package: _version(package) for package in ("torch", "transformers", "litgpt")}
    return {
        "machine": name,
        "threads": str(torch.get_num_threads()),
        "python": platform.python_version(),
        "packages": ", ".join(f"{package} {number}" for package, number in packages.items()),
        "commit": _commit(),
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    fields = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    named = {key.strip(): value.strip() for key, value in fields.items()}
    flags = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in named.get("flags", "").split()]
    model = f"family {named.get('cpu family')}, model {named.get('model')}"
    return f"{named.get('model name', platform.processor())} ({model}; {' '.join(flags)})"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _commit() -> str:
    asked = ["git", "describe", "--always", "--dirty"]
    answer = subprocess.run(asked, capture_output=True, text=True, cwd=Path(__file__).parent, check=False)
    return answer.stdout.strip() or "unknown"
