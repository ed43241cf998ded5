"""What a run does besides training: validation, telemetry, checkpoints, TensorBoard, metrics and figures.

python benchmarks/overhead.py                 # the default command, with trainer=default and with trainer=auto
python benchmarks/overhead.py --trainers auto --steps 400 model=tiny

A whole run of src/run.py with its default settings, in this process, with a clock around each part; before
and after it the bare steps of the same settings. A part's time is its own: what is called from within another part
counts for the inner one. Shares are of the time from the end of the first step, which compiles, to the end of the run.
What the instruments' hooks take within a step is what due steps take beyond the others.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

import normlab.app.cli
import normlab.app.tasks.train
import normlab.app.training
import normlab.train.loop
from normlab.app.build import build_experiment
from normlab.app.options import CONFIG_FOLDER
from normlab.app.packing.company import Alone
from normlab.app.resolvers import register_resolvers
from normlab.autopsy.early_warning import EarlyWarning
from normlab.data.prefetch import Prefetcher
from normlab.telemetry.console import ConsoleSink
from normlab.telemetry.figures import FigureSink
from normlab.telemetry.instruments import Instruments, is_due
from normlab.telemetry.sinks import JsonLinesSink
from normlab.telemetry.tensorboard import TensorBoardSink
from normlab.train.black_box import BlackBox
from normlab.train.step import training_step

NUM_WARMUP_STEPS = 5
PARTS: list[tuple[Any, str, str]] = [
    (normlab.train.loop, "validation_loss", "validation"),
    (normlab.app.training, "_save", "checkpoints"),
    (normlab.app.tasks.train, "sampled_text", "sample of text"),
    (normlab.app.tasks.train, "summarise", "summary"),
    (Instruments, "_arm", "telemetry"),
    (Instruments, "_taken", "telemetry"),
    (Prefetcher, "__call__", "waiting for a batch"),
    (EarlyWarning, "observe", "early warning"),
    (BlackBox, "_keep", "copy for the autopsy"),
    (JsonLinesSink, "record", "metrics.jsonl"),
    *(
        (TensorBoardSink, name, "TensorBoard")
        for name in ("__init__", "begin", "record", "text", "image", "end", "close")
    ),
    *((FigureSink, name, "figures") for name in ("__init__", "record", "close")),
    *((ConsoleSink, name, "console") for name in ("record", "close")),
]
"""Where a function stands, its name, and the part of the run that it is; ``main`` fails where one is gone."""

NAMED_IN_GOAL = (
    "validation",
    "telemetry",
    "telemetry, within steps",
    "checkpoints",
    "TensorBoard",
    "metrics.jsonl",
    "figures",
)


class Clock:
    """Seconds by part, each part's own."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._open: list[float] = []

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time what is done within, less the parts in it."""
        self._open.append(0.0)
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[name] = self.seconds.get(name, 0.0) + elapsed - self._open.pop()
            if self._open:
                self._open[-1] += elapsed

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time on this clock."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            with self.part(name):
                return function(*arguments, **keywords)

        return call


def main() -> None:
    """Print the share of each part for every trainer that is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trainers", default="default,auto")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    register_resolvers()
    print(f"torch {torch.__version__}, {arguments.threads} threads, {arguments.steps} steps\n")
    for trainer in arguments.trainers.split(","):
        overrides = [f"trainer={trainer}", f"trainer.steps={arguments.steps}", *arguments.overrides]
        before = bare_seconds(overrides, arguments.steps // 2)
        run = TimedRun(overrides)
        after = bare_seconds(overrides, arguments.steps // 2)
        report(overrides, run, [before, after])


class TimedRun:
    """A whole run with its parts on a clock; ``seconds`` from the end of its first step to its own end."""

    def __init__(self, overrides: list[str]):
        self.clock = Clock()
        self.steps: list[float] = []
        self._first_ended = 0.0
        with TemporaryDirectory() as folder, ExitStack() as stack:
            stack.enter_context(patch.object(normlab.train.loop, "training_step", self._step))
            for place, name, part in PARTS:
                stack.enter_context(patch.object(place, name, self.clock.timed(part, getattr(place, name))))
            arguments = ["src/run.py", *overrides, f"hydra.run.dir={Path(folder) / 'run'}"]
            stack.enter_context(patch.object(sys, "argv", arguments))
            exit_code = normlab.app.cli.main()
            self.seconds = time.perf_counter() - self._first_ended
        if exit_code != 0:
            raise SystemExit(exit_code)

    def _step(self, *arguments: Any, **keywords: Any) -> Any:
        started = time.perf_counter()
        with self.clock.part("steps"):
            result = training_step(*arguments, **keywords)
        self.steps.append(time.perf_counter() - started)
        if len(self.steps) == 1:
            self.clock.seconds.clear()  # what came before is start-up
            self._first_ended = time.perf_counter()
        return result


def report(overrides: list[str], run: TimedRun, bare: list[float]) -> None:
    """A table of parts, and the two shares: what the clocks tell and what the bare steps leave."""
    every = composed(overrides).telemetry.every
    due = [seconds for step, seconds in enumerate(run.steps, 1) if step > 1 and is_due(step, every)]
    others = [seconds for step, seconds in enumerate(run.steps, 1) if step > 1 and not is_due(step, every)]
    parts = dict(run.clock.seconds)
    all_steps = parts.pop("steps")
    hooks = max(0.0, sum(due) - len(due) * statistics.median(others))
    parts["telemetry, within steps"] = hooks
    parts["no clock"] = run.seconds - sum(run.clock.seconds.values())
    print(f"### {' '.join(overrides)}\n\n| part | seconds | share |\n|---|---:|---:|")
    for name, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"| {name} | {seconds:.2f} | {seconds / run.seconds:.1%} |")
    steps = all_steps - hooks
    print(f"| steps | {steps:.2f} | {steps / run.seconds:.1%} |")
    num_steps = len(run.steps) - 1
    expected = num_steps * sum(bare) / len(bare)
    goal = sum(seconds for name, seconds in parts.items() if name in NAMED_IN_GOAL)
    print(f"\n{', '.join(NAMED_IN_GOAL)} together: {goal / run.seconds:.1%} of {run.seconds:.1f} s.")
    print(f"All but the steps: {1 - steps / run.seconds:.1%}.")
    print(
        f"A bare step takes {1000 * bare[0]:.1f} ms before and {1000 * bare[1]:.1f} ms after, a step of the run "
        f"{1000 * steps / num_steps:.1f} ms; bare steps alone would have saved {1 - expected / run.seconds:.1%}.\n",
        flush=True,
    )


def composed(overrides: list[str]) -> DictConfig:
    """The configuration of a command line."""
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3", job_name="normlab"):
        return compose("config", overrides)


def bare_seconds(overrides: list[str], num_steps: int) -> float:
    """A step of the same run with nothing around it but its batch."""
    config = composed(overrides)
    experiment = build_experiment(config, print)
    passes = Alone().passes_of(experiment)
    clip, lr = experiment.settings.grad_clip, config.optimizer.lr / 100  # slow enough to stay finite
    started = 0.0
    for step in range(1, NUM_WARMUP_STEPS + num_steps + 1):
        if step == NUM_WARMUP_STEPS + 1:
            started = time.perf_counter()
        batch = experiment.batches.training(step)
        training_step(experiment.model, experiment.optimizer, passes, batch, lr=lr, grad_clip=clip)
    return (time.perf_counter() - started) / num_steps


if __name__ == "__main__":
    main()
