"""One run on many devices: what a step costs by the model in benchmarks/devices/cost.py, beside what it costs here.

python benchmarks/many_devices.py                        # 1, 2 and 4 processes on this machine's CPU, over gloo
python benchmarks/many_devices.py --plan 64              # on paper: what is needed on 64 GPUs, and what gives out first

Measured are commands of src/run.py, each process with one thread. A step is predicted from two things measured apart:
the same number of runs at once, each by itself on its share of the batch (so that cores and caches are as busy), and
each collective by itself between the same number of processes. Nothing is fitted. Memory is the largest resident
size of any process, less that of a run with a model of no weight to speak of.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from devices.cost import Collective, Parallel, Shape, collectives, largest_in_process
from devices.plan import print_plan

ROOT = Path(__file__).resolve().parents[1]
ENTRY = ROOT / "src" / "run.py"
WORKER = Path(__file__).parent / "devices" / "collectives.py"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
BATCH, CONTEXT, BYTES = 8, 128, 257
MODELS = {
    "small": Shape("small", 4, 256, 704, BYTES, CONTEXT),
    "handout": Shape("handout", 4, 512, 1344, BYTES, CONTEXT),
}
NUM_STEPS, FIRST_STEPS = 12, 3


def main() -> None:
    """Print a table of steps and one of memory, or the plan."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plan", type=int, metavar="DEVICES")
    arguments = parser.parse_args()
    if arguments.plan is not None:
        return print_plan(arguments.plan)
    os.environ["OMP_NUM_THREADS"] = "1"
    with TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "a.txt").write_text("The cat sat on the mat, and a dog ran by. " * 4000)
        print("| model | devices | alone, ms | collectives, ms | predicted, ms | measured, ms | quartiles | off by |")
        print("|---|---|---:|---:|---:|---:|---:|---:|")
        for shape in MODELS.values():
            for size in (1, 2, 4):
                for parallel in ("ddp", "fsdp") if size > 1 else (None,):
                    print(step_row(folder, shape, parallel, size, arguments.rounds), flush=True)
        print("\n| model | devices | predicted, MB | measured, MB | off by |\n|---|---|---:|---:|---:|")
        for size in (1, 2, 4):
            for parallel in ("ddp", "fsdp") if size > 1 else (None,):
                print(memory_row(folder, MODELS["handout"], parallel, size), flush=True)


def step_row(folder: Path, shape: Shape, parallel: Parallel | None, size: int, rounds: int) -> str:
    """Predicted and measured in turns; medians over the rounds."""
    found = [one_round(folder, shape, parallel, size) for _ in range(rounds)]
    alone, waited = (statistics.median(column) for column in list(zip(*found, strict=True))[:2])
    steps = [step for _, _, steps in found for step in steps]
    low, measured, high = (1e3 * seconds for seconds in statistics.quantiles(steps, n=4))
    predicted = 1e3 * (alone + waited)
    return (
        f"| {shape.name} | {size} {parallel or ''} | {1e3 * alone:.0f} | {1e3 * waited:.0f} | {predicted:.0f} "
        f"| {measured:.0f} | {low:.0f} to {high:.0f} | {predicted / measured - 1:+.0%} |"
    )


def one_round(folder: Path, shape: Shape, parallel: Parallel | None, size: int) -> tuple[float, float, list[float]]:
    """Seconds of a step alone, of its collectives, and of each measured one."""
    share = [run_command(shape, None, BATCH // size, f"alone{rank}") for rank in range(size)]
    alone = statistics.median(step for steps in in_folder(folder, share) for step in steps)
    if parallel is None:
        (steps,) = in_folder(folder, [run_command(shape, None, BATCH, "one")])
        return alone, 0.0, steps
    waited = seconds_of(collectives(shape, parallel), size)
    (steps,) = in_folder(folder, [run_command(shape, parallel, BATCH, "shared", size)])
    return alone, waited, steps


def run_command(shape: Shape, parallel: Parallel | None, batch: int, name: str, size: int = 1) -> list[str]:
    """A training of some steps, that does nothing else; the last argument names its folder."""
    launch = [*TORCHRUN, f"--nproc-per-node={size}"] if parallel else [sys.executable]
    return [
        *launch, str(ENTRY), f"model.width={shape.width}", f"model.num_layers={shape.num_layers}", "model.num_heads=8",
        f"model.ffn.hidden_width={shape.hidden_width}", f"model.context_length={CONTEXT}", "tokenizer=bytes",
        "data=text", "data.train=[a.txt]", "data.valid=a.txt", f"trainer.batch_size={batch}", "telemetry=none",
        f"trainer.steps={NUM_STEPS}", "schedule.warmup_steps=1", "trainer.val_every=1000", "trainer.val_tokens=128",
        "trainer.precision=float32", "logger=none", f"trainer={parallel or 'default'}", f"hydra.run.dir={name}",
    ]  # fmt: skip


def in_folder(folder: Path, commands: list[list[str]]) -> list[list[float]]:
    """Seconds of the steps of each command but its first ones and the last, which validates; all at once."""
    names = [command[-1].partition("=")[2] for command in commands]
    started = [
        subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    for process in started:
        _, said = process.communicate()
        if process.returncode != 0:
            raise SystemExit(f"a run ended with {process.returncode}:\n{said}")
    found = []
    for name in names:
        records = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
        seconds = [record["seconds"] for record in records][FIRST_STEPS:-1]
        found.append([after - before for before, after in pairwise(seconds)])
        subprocess.run(["rm", "-r", str(folder / name)], check=True)
    return found


def seconds_of(asked: list[Collective], size: int) -> float:
    """Of all of a step's collectives, each measured by itself."""
    kinds = json.dumps([[each.kind, each.num_bytes, each.count] for each in asked])
    command = [*TORCHRUN, f"--nproc-per-node={size}", str(WORKER), kinds]
    said = subprocess.run(command, capture_output=True, text=True, check=True)
    measured = json.loads(said.stdout.splitlines()[-1])
    return sum(each.count * seconds for each, seconds in zip(asked, measured, strict=True))


def memory_row(folder: Path, shape: Shape, parallel: Parallel | None, size: int) -> str:
    """Of the largest process, beyond a model of next to no weight; the activations of one short window are in it."""
    small = Shape("none", 1, 16, 16, BYTES, CONTEXT)
    of_both = []
    for each in (shape, small):
        command = run_command(each, parallel, max(1, size), "memory", size)
        of_both.append(peak_kilobytes(folder, command))
    measured = (of_both[0] - of_both[1]) * 1024 / 1e6
    predicted = (largest_in_process(shape, parallel, size) - largest_in_process(small, parallel, size)) / 1e6
    off = predicted / measured - 1
    return f"| {shape.name} | {size} {parallel or ''} | {predicted:.0f} | {measured:.0f} | {off:+.0%} |"


def peak_kilobytes(folder: Path, command: list[str]) -> int:
    """Largest resident size of any process of the command, by a child of its own, which has no other children."""
    code = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, "
        "stderr=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=folder, capture_output=True, text=True, check=True
    )
    subprocess.run(["rm", "-r", str(folder / "memory")], check=True)
    return int(said.stdout)


if __name__ == "__main__":
    main()
