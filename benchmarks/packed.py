"""Packed sweeps against runs one after the other: whole commands, in turn, medians and spread.

python benchmarks/packed.py --runs 24 --steps 100 --rounds 3
python benchmarks/packed.py --runs 24 trainer.precision=float32 trainer.compile=true

Takes the overrides of src/run.py. The runs differ by seed and train ``model=tiny`` on a context of 128 tokens, 8
windows a step. Told are the seconds of a command, those from the first step of any run to the last, and the ratios.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

ENTRY = Path(__file__).resolve().parents[1] / "src" / "run.py"
LAUNCHERS = ("basic", "packed")
FIXED = ("model=tiny", "model.context_length=128", "trainer.batch_size=8", "reuse=sweep")


def main() -> None:
    """Print a line for each launcher and the ratio of both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    told, overrides = parser.parse_known_args()
    asked = [*FIXED, f"trainer.steps={told.steps}", f"schedule.warmup_steps={max(1, told.steps // 10)}", *overrides]
    measured: dict[str, list[tuple[float, float]]] = {launcher: [] for launcher in LAUNCHERS}
    with tempfile.TemporaryDirectory() as place:
        command(Path(place), "warm", "basic", [*asked, "trainer.steps=1", "schedule.warmup_steps=0", "seed=0,1"])
        for number in range(told.rounds):
            for launcher in LAUNCHERS if number % 2 == 0 else reversed(LAUNCHERS):
                seeds = f"seed={','.join(map(str, range(told.runs)))}"
                measured[launcher].append(command(Path(place), f"{launcher}{number}", launcher, [*asked, seeds]))
    print(f"torch {torch.__version__}; {told.runs} runs of {told.steps} steps; {' '.join(overrides) or 'defaults'}")
    print(f"{'launcher':<10}{'command, s':>14}{'spread':>18}{'training, s':>14}{'spread':>18}")
    for launcher, pairs in measured.items():
        columns = [f"{told_of(list(times))}" for times in zip(*pairs, strict=True)]
        print(f"{launcher:<10}{''.join(columns)}")
    ratios = [
        statistics.median(one) / statistics.median(other)
        for one, other in zip(zip(*measured["basic"], strict=True), zip(*measured["packed"], strict=True), strict=True)
    ]
    print(f"packed is {ratios[0]:.2f} times as fast as one after the other; its training alone {ratios[1]:.2f} times")


def command(place: Path, name: str, launcher: str, overrides: list[str]) -> tuple[float, float]:
    """Seconds of a whole sweep, and those in which steps were taken."""
    arguments = ["--multirun", *overrides, f"hydra/launcher={launcher}", f"hydra.sweep.dir={name}"]
    started = time.perf_counter()
    subprocess.run([sys.executable, str(ENTRY), *arguments], cwd=place, check=True, capture_output=True)
    return time.perf_counter() - started, training_seconds(place / name, launcher)


def training_seconds(sweep: Path, launcher: str) -> float:
    """Of runs one after the other the sum of their own; of runs side by side the longest."""
    seconds = [json.loads(path.read_text())["seconds"] for path in sweep.glob("*/summary.json")]
    return sum(seconds) if launcher == "basic" else max(seconds)


def told_of(times: list[float]) -> str:
    """Median and spread."""
    return f"{statistics.median(times):>14.1f}{f'{min(times):.1f} to {max(times):.1f}':>18}"


if __name__ == "__main__":
    main()
