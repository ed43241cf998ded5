"""A claim that a quantity grows from one variant to the next, judged seed by seed.

A quantity of one seed is a pair of bounds between which it lies: equal ones where it is measured; for a frontier the
largest rate that survived and the next that killed; for the step of death of a run that lived its last step and
infinity. So what a grid of rates does not resolve, or a sweep did not wait for, does not count for either side.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from normlab.report.conditions import reading
from normlab.report.frontier import frontier
from normlab.report.losses import has_result, loss_of
from normlab.report.rate_grid import best_rate, sensitivity
from normlab.report.results import RunResult, SweepResult
from normlab.report.selection import Undecidable, select_variant, selection_in_words

Bounds = tuple[float, float]


def verdict_on_order(criterion: Mapping[str, Any], sweep: SweepResult) -> tuple[bool | None, str]:
    """Met where every shared seed has every pair in the claimed order, not met where in some pair none has it and at
    least one has the reverse, undecided otherwise, and where a pair shares fewer than ``min_seeds`` seeds.

    Raises Undecidable where a selection matches no run, or more than one variant or run of a seed.
    """
    quantity = criterion["quantity"]
    selected = [_runs_for(sweep, quantity, where) for where in criterion["ascending"]]
    rates = sorted(set.intersection(*({run.lr for run in runs if run.lr is not None} for runs in selected)))
    values = [_by_seed(quantity, runs, rates) for runs in selected]
    names = [selection_in_words(where) for where in criterion["ascending"]]
    found, said = [], []
    for (first, second), (of, than) in zip(pairwise(values), pairwise(names), strict=True):
        met, counted = _pair(first, second, criterion["min_seeds"])
        found.append(met)
        said.append(f"{of} {_range(first)}, {than} {_range(second)}: {counted}")
    met = False if False in found else None if None in found else True
    return met, f"{_quantity_in_words(quantity)}, claimed to grow: {'; '.join(said)}."


def _pair(first: Mapping[int, Bounds], second: Mapping[int, Bounds], min_seeds: int) -> tuple[bool | None, str]:
    shared = sorted(first.keys() & second.keys())
    ordered = sum(_is_below(first[seed], second[seed]) for seed in shared)
    reversed_ = sum(_is_below(second[seed], first[seed]) for seed in shared)
    said = f"in order on {ordered} of {len(shared)} shared seeds, reversed on {reversed_}"
    if len(shared) < min_seeds:
        return None, f"{said}, where {min_seeds} are required"
    return (True if ordered == len(shared) else False if not ordered and reversed_ else None), said


def _is_below(first: Bounds, second: Bounds) -> bool:
    """Surely so, wherever the two lie within their bounds."""
    return first[1] <= second[0] and first[0] < second[0]


def _runs_for(sweep: SweepResult, quantity: Any, where: Mapping[str, Any]) -> list[RunResult]:
    if quantity == "loss" and "lr" not in where:
        where = {**where, "lr": "best"}
    runs = select_variant(sweep, where)
    if quantity in ("frontier", "sensitivity", "best_rate"):
        return runs
    if len({run.seed for run in runs}) < len(runs):
        raise Undecidable(f"{selection_in_words(where)} selects several runs of a seed where one is compared: name lr")
    return runs


def _by_seed(quantity: Any, runs: Sequence[RunResult], rates: Sequence[float]) -> dict[int, Bounds]:
    """Of every seed of which it is known."""
    seeds = sorted({run.seed for run in runs})
    found = {seed: _bounds(quantity, [run for run in runs if run.seed == seed], rates) for seed in seeds}
    return {seed: bounds for seed, bounds in found.items() if bounds is not None}


def _bounds(quantity: Any, runs: Sequence[RunResult], rates: Sequence[float]) -> Bounds | None:
    """Of one seed's runs; None where some of them have no result."""
    if not all(map(has_result, runs)):
        return None
    match quantity:
        case "frontier":
            found = frontier(runs)
            return (found.lr or 0.0, math.inf if found.next_dead is None else found.next_dead)
        case "sensitivity":
            measured = sensitivity(runs, rates)
            value = None if measured is None else measured.value
        case "best_rate":
            best = best_rate(runs)
            value = None if best is None else best.lr
        case "loss":
            value = loss_of(runs[0], "final")
        case "death_step":
            return (float(runs[0].steps), float(runs[0].steps) if runs[0].is_dead else math.inf)
        case _:
            value = reading(quantity["statistic"], runs[0])
    return None if value is None else (value, value)


def _range(values: Mapping[int, Bounds]) -> str:
    """The lowest and highest lower bounds over the seeds."""
    lows = sorted({low for low, _ in values.values()})
    if not lows:
        return "unknown"
    return f"{lows[0]:.4g}" if len(lows) == 1 else f"{lows[0]:.4g} to {lows[-1]:.4g}"


def _quantity_in_words(quantity: Any) -> str:
    if isinstance(quantity, Mapping):
        return f"{quantity['statistic']['over'].capitalize()} of {quantity['statistic']['tag']}"
    return {
        "frontier": "Largest stable learning rate",
        "sensitivity": "Learning-rate sensitivity in nats",
        "best_rate": "Best learning rate",
        "loss": "Final validation loss in nats per token",
        "death_step": "Step of death",
    }[quantity]
