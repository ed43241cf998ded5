"""From typing a command to its first training step, and from one run of a sweep to the next.

python benchmarks/startup.py                            # trainer=default and trainer=auto, cold and warm; a sweep
python benchmarks/startup.py --trainers auto --no-cold model=tiny

Every command is a process of its own, of which this script is told when it gets where. "Cold" has an empty cache of
compiled graphs, "warm" has one that the same command has filled. Data and tokenizer are prepared beforehand by a run
that is not timed. The time is that of the wall, from before the process is started.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STAMPS = "NORMLAB_BENCHMARK_STAMPS"
"""The environment variable with the file that a child writes its stamps to; where it is set, this is a child."""
NUM_STEPS = 5
STAGES = (
    ("interpreter", "typed", "started"),
    ("imports of the command line", "started", "imported"),
    ("Hydra, checks, imports of the task", "imported", "build begins"),
    ("data, model, optimizer", "build begins", "build ends"),
    ("folder, logger, instruments", "build ends", "step begins"),
    ("first step (compiles)", "step begins", "step ends"),
)
Stamp = tuple[str, float]


def main() -> None:
    """Print where the time goes for every trainer that is asked for, and between the runs of a sweep."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trainers", default="default,auto")
    parser.add_argument("--repeats", type=int, default=3, help="warm starts; the median is told")
    parser.add_argument("--no-cold", action="store_true")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    steps = [f"trainer.steps={NUM_STEPS}", "schedule.warmup_steps=1", *arguments.overrides]
    stamps_of(steps, {})
    for trainer in arguments.trainers.split(","):
        command = [f"trainer={trainer}", *steps]
        if not arguments.no_cold:
            with TemporaryDirectory() as empty:
                cold = stamps_of(command, {"TORCHINDUCTOR_CACHE_DIR": empty})
            report(f"{' '.join(command)}: cold", [cold])
        stamps_of(command, {})
        report(f"{' '.join(command)}: warm", [stamps_of(command, {}) for _ in range(arguments.repeats)])
        report_sweep(["--multirun", "seed=0,1,2,3", *command])


def stamps_of(overrides: list[str], environment: dict[str, str]) -> list[Stamp]:
    """What a process of the command reports."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "stamps"
        places = [f"hydra.run.dir={folder}/run", f"hydra.sweep.dir={folder}/sweep"]
        command = [sys.executable, __file__, *overrides, *places]
        typed = time.time()
        environment = {**os.environ, **environment, STAMPS: str(path)}
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(overrides)} ended with {done.returncode}:\n{done.stderr}")
        return [("typed", typed), *(tuple(stamp) for stamp in json.loads(path.read_text()))]


def report(title: str, starts: list[list[Stamp]]) -> None:
    """Seconds of every stage, the median of several starts."""
    print(f"### {title}\n\n| stage | seconds |\n|---|---:|")
    firsts = [_first(stamps) for stamps in starts]
    for name, begin, end in STAGES:
        print(f"| {name} | {statistics.median(first[end] - first[begin] for first in firsts):.2f} |")
    for name, end in (("to the first step's beginning", "step begins"), ("to the first step's end", "step ends")):
        totals = [first[end] - first["typed"] for first in firsts]
        print(f"| {name} | {statistics.median(totals):.2f} ({min(totals):.2f} to {max(totals):.2f}) |")
    print(flush=True)


def report_sweep(command: list[str]) -> None:
    """Between runs: from the end of a run's last step to the end of the next one's first."""
    stamps = stamps_of(command, {})
    names = ("ends of runs", "to the build", "build", "to the first step", "first step", "an ordinary step")
    print(f"### {' '.join(command)}\n\n| run | {' | '.join(names)} | overhead |\n|---|{'---:|' * 7}")
    begins = [index for index, (name, _) in enumerate(stamps) if name == "build begins"]
    for number, index in enumerate(begins[1:], 2):
        before, after = stamps[:index], _first(stamps[index:])
        last_step = max(moment for name, moment in before if name == "step ends")
        last_end = max(moment for name, moment in before if name == "run ends")
        later = [moment for name, moment in stamps[index:] if name == "step ends"][1:NUM_STEPS]
        ordinary = (later[-1] - later[0]) / (len(later) - 1)
        parts = [
            last_end - last_step,
            after["build begins"] - last_end,
            after["build ends"] - after["build begins"],
            after["step begins"] - after["build ends"],
            after["step ends"] - after["step begins"],
        ]
        seconds = " | ".join(f"{part:.2f}" for part in [*parts, ordinary])
        print(f"| {number} | {seconds} | {sum(parts) - ordinary:.2f} |")
    print("\nThe end of a run is its validation, checkpoint, sample of text and figures.\n", flush=True)


def _first(stamps: list[Stamp]) -> dict[str, float]:
    first: dict[str, float] = {}
    for name, moment in stamps:
        first.setdefault(name, moment)
    return first


def child() -> int:
    """What src/run.py does, with stamps."""
    stamps: list[Stamp] = [("started", time.time())]

    def stamped(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            stamps.append((f"{name} begins", time.time()))
            try:
                return function(*arguments, **keywords)
            finally:
                stamps.append((f"{name} ends", time.time()))

        return call

    from normlab.app import cli

    stamps.append(("imported", time.time()))
    check = cli.check_command_line

    def checked(arguments: list[str]) -> list[str]:
        result = check(arguments)
        import normlab.app.tasks.train as task  # only now, as the command line would
        import normlab.app.training as training
        import normlab.train.loop as loop

        task.build_experiment = stamped("build", task.build_experiment)
        task.take_steps = stamped("run", task.take_steps)
        loop.training_step = stamped("step", loop.training_step)
        assert training.training_records is loop.training_records
        return result

    cli.check_command_line = checked
    exit_code = cli.main()
    Path(os.environ[STAMPS]).write_text(json.dumps(stamps))
    return exit_code


if __name__ == "__main__":
    sys.exit(child() if STAMPS in os.environ else main())
