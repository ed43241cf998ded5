"""Which runs a figure shows, and which of them together."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from normlab.report.rate_grid import best_rate
from normlab.report.results import RunResult, SweepResult
from normlab.report.variants import Variant, baseline_of, by_variant

Arms = dict[Variant, list[RunResult]]
MOST_PANELS = 12
Item = TypeVar("Item")


def best_arms(sweep: SweepResult) -> Arms:
    """Each variant's runs at its own best rate; at the smallest one tried while none of them has a result."""
    arms: Arms = {}
    for variant, runs in by_variant(sweep).items():
        found = best_rate(runs)
        rate = runs[0].lr if found is None else found.lr
        arms[variant] = [run for run in runs if run.lr == rate]
    return arms


def has_several_rates(sweep: SweepResult) -> bool:
    """Whether learning rates were swept."""
    return len({run.lr for run in [*sweep.runs, *sweep.not_begun]}) > 1


def at_best_rate(sweep: SweepResult) -> str:
    """The end of a title; nothing where there is no rate to choose."""
    return " at its own best learning rate" if has_several_rates(sweep) else ""


def hardest_arms(sweep: SweepResult) -> tuple[float, Arms] | None:
    """The largest rate at which every variant has runs, and these; None where there is one rate, or none in common."""
    grouped = by_variant(sweep)
    rates = [{run.lr for run in runs if run.lr is not None} for runs in grouped.values()]
    common = set.intersection(*rates) if rates else set()
    if not common or max(common) == min(set.union(*rates)):
        return None
    rate = max(common)
    return rate, {variant: [run for run in runs if run.lr == rate] for variant, runs in grouped.items()}


def distinct_runs(sweep: SweepResult) -> list[RunResult]:
    """The runs in order, each under the first of its names."""
    return list({run.folder: run for run in reversed(sweep.runs)}.values())[::-1]


def distinct_variants(sweep: SweepResult) -> list[Variant]:
    """The same without those whose runs an earlier one shares."""
    grouped = by_variant(sweep)
    return list(distinct({variant: grouped[variant] for variant in baseline_first(sweep)})[0])


def baseline_first(sweep: SweepResult) -> list[Variant]:
    """The variants with runs in the order of the command line, the baseline before all."""
    baseline = baseline_of(sweep)
    variants = list(by_variant(sweep))
    return variants if baseline is None else [baseline, *(variant for variant in variants if variant != baseline)]


def distinct(arms: Arms) -> tuple[Arms, dict[Variant, Variant]]:
    """The arms without those that are the same runs as an earlier one, and for each of these which that is.

    Choices that build the same model share their runs.
    """
    first: dict[tuple[Path, ...], Variant] = {}
    same = {}
    for variant, runs in arms.items():
        found = first.setdefault(tuple(run.folder for run in runs), variant)
        if found != variant:
            same[variant] = found
    return {variant: runs for variant, runs in arms.items() if variant not in same}, same


def drawn_together(variants: Sequence[Variant], most: int) -> list[list[Variant]]:
    """Parts of at most so many, nearly equal in size, the first variant in each: to compare the others with."""
    if len(variants) <= most:
        return [list(variants)]
    first, others = variants[0], variants[1:]
    return [[first, *part] for part in split(others, most - 1)]


def split(items: Sequence[Item], most: int) -> list[list[Item]]:
    """Parts of at most so many, nearly equal in size, in order."""
    num = max(1, -(-len(items) // most))
    bounds = [len(items) * part // num for part in range(num + 1)]
    return [list(items[low:high]) for low, high in pairwise(bounds)]
