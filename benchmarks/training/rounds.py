"""Who is fastest: qualifying for each peer's best settings, then rounds in which all take turns."""

import gc
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from training.contestants import Contestant, Settings, entered
from training.machine import Peak, synchronise
from training.shapes import Shape

NUM_QUALIFYING_STEPS = 4
HOPELESS = 1.6
"""A trial ends where its first timed step takes this many times as long as the best one's."""
FEWEST_ROUNDS = 3
TURN_SECONDS = 0.3
"""A turn has as many steps as fit into this time, at least one."""


def qualified(
    name: str, choices: list[Settings], shape: Shape, device: torch.device, say: Callable[[str], None]
) -> tuple[Contestant, Settings]:
    """The contestant at the fastest of its settings; the others are forgotten."""
    best: tuple[float, Contestant, Settings] | None = None
    for settings in choices:
        started = time.perf_counter()
        contestant = admitted(name, settings, shape, device)
        warm_up = time.perf_counter() - started
        seconds = [seconds_of(contestant, 1, device)]
        if best is None or seconds[0] < HOPELESS * best[0]:
            seconds += [seconds_of(contestant, 1, device) for _ in range(NUM_QUALIFYING_STEPS - 1)]
        fastest = min(seconds)  # a trial is short, and a neighbour's load only ever adds to it
        say(f"  {name}, {settings}: {1000 * fastest:.1f} ms a step (the first after {warm_up:.1f} s)")
        if best is None or fastest < best[0]:
            best = fastest, contestant, settings
        del contestant
        gc.collect()
    assert best is not None
    return best[1], best[2]


def admitted(name: str, settings: Settings | None, shape: Shape, device: torch.device) -> Contestant:
    """A contestant after its first step; on CUDA with the memory that it has taken at most since it was built."""
    gc.collect()
    is_cuda = device.type == "cuda"
    before = torch.cuda.memory_allocated(device) if is_cuda else 0
    contestant = entered(name, settings, shape, device)
    contestant.check()
    if not is_cuda:
        return contestant
    torch.cuda.reset_peak_memory_stats(device)
    seconds_of(contestant, 2, device)
    return replace(contestant, peak_bytes=torch.cuda.max_memory_allocated(device) - before)


def seconds_of(contestant: Contestant, num_steps: int, device: torch.device) -> float:
    """The time of a step, over some."""
    synchronise(device)
    started = time.perf_counter()
    for _ in range(num_steps):
        contestant.step()
    synchronise(device)
    return (time.perf_counter() - started) / num_steps


def seconds_in_rounds(
    contestants: list[Contestant], num_rounds: int, max_seconds: float, device: torch.device, peak: Peak
) -> list[list[float]]:
    """Of each contestant the time of a step in each round; the order turns, the peak is measured in between.

    The last round is the one in which ``max_seconds`` are over, but not one of the first ``FEWEST_ROUNDS``.
    """
    num_steps = []
    for contestant in contestants:
        contestant.check()
        num_steps.append(max(1, int(TURN_SECONDS / seconds_of(contestant, 1, device))))
    seconds: list[list[float]] = [[] for _ in contestants]
    began = time.monotonic()
    for number in range(num_rounds):
        if number >= FEWEST_ROUNDS and time.monotonic() - began > max_seconds:
            break
        peak.measure()
        for offset in range(len(contestants)):
            index = (number + offset) % len(contestants)
            seconds[index].append(seconds_of(contestants[index], num_steps[index], device))
    peak.measure()
    for contestant in contestants:
        contestant.check()
    return seconds
