"""C++ beside the Python, compiled on first use by the machine's own compiler for the machine's own processor.

The library is kept under ``$XDG_CACHE_HOME/normlab`` (``~/.cache/normlab``), by a hash of the source, the command and
the processor. Where there is no compiler or it fails, there is no library, and callers do without.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

FLAGS = ["-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC"]
SECONDS_TO_COMPILE = 120


@cache
def load_native(source: Path) -> ctypes.CDLL | None:
    """The compiled form of a C++ file; None where this machine cannot make it."""
    compiler = shutil.which(os.environ.get("CXX", "c++")) or shutil.which("g++") or shutil.which("clang++")
    if compiler is None or platform.system() != "Linux":
        return None
    try:
        return ctypes.CDLL(str(_compiled(source, compiler)))
    except (OSError, subprocess.SubprocessError):
        return None


def _compiled(source: Path, compiler: str) -> Path:
    """Written beside its final name and moved there: processes that start together do not disturb each other."""
    command = [compiler, *FLAGS, str(source)]
    identity = hashlib.sha256(source.read_bytes() + repr((command, _processor())).encode()).hexdigest()[:16]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "normlab"
    library = folder / f"{source.stem}-{identity}.so"
    if not library.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            unfinished = Path(temporary) / library.name
            subprocess.run(
                [*command, "-o", str(unfinished)], check=True, capture_output=True, timeout=SECONDS_TO_COMPILE
            )
            unfinished.replace(library)
    return library


def _processor() -> str:
    """What ``-march=native`` goes by: a home folder may be shared by unlike machines."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return "".join(sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))}))
