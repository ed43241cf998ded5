"""A claim about a loss, or about a difference of two: where its 95 % interval lies."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from normlab.report.intervals import losses_by_seed, mean_of
from normlab.report.losses import Measure, has_result
from normlab.report.results import RunResult, SweepResult
from normlab.report.selection import Undecidable, select_variant, selection_in_words


def verdict_on_loss(criterion: Mapping[str, Any], sweep: SweepResult) -> tuple[bool | None, str]:
    """Met where the interval lies within the claimed bounds, not met where outside of them, undecided where across.

    Undecided also where runs have no result yet, where fewer than ``min_seeds`` seeds have a loss on both sides, and
    where it would be met but a run of either side died: the survivors alone prove nothing. Raises Undecidable where a
    side selects no run, or more than one variant.
    """
    measure: Measure = criterion["measure"]
    sides = [_at_one_rate(sweep, criterion[key]) for key in ("of", "than") if key in criterion]
    losses = [losses_by_seed(runs, measure) for runs in sides]
    values = losses[0]
    if "than" in criterion:
        of, than = losses
        scale = than if criterion.get("relative") else dict.fromkeys(than, 1.0)
        values = {seed: (of[seed] - than[seed]) / scale[seed] for seed in of if seed in than}
    mean = mean_of(list(values.values()))
    num_dead = sum(run.is_dead for runs in sides for run in runs)
    num_waiting = sum(not has_result(run) for runs in sides for run in runs)
    low, high = criterion.get("above", -math.inf), criterion.get("below", math.inf)
    sentence = _sentence(criterion, len(values), num_dead, num_waiting, sides)
    if mean is None:
        return None, sentence
    sentence += f" Found {mean.value:.4f}"
    if mean.low is None or mean.high is None:
        return None, f"{sentence}, of one seed: no interval."
    sentence += f" [{mean.low:.4f}, {mean.high:.4f}]; claimed: {_bounds(criterion)}."
    if num_waiting or len(values) < criterion["min_seeds"]:
        return None, f"{sentence} {criterion['min_seeds']} seeds with all runs ended are required."
    if mean.high <= low or mean.low >= high:
        return False, sentence
    return (True if low < mean.low and mean.high < high and not num_dead else None), sentence


def _at_one_rate(sweep: SweepResult, where: Mapping[str, Any]) -> list[RunResult]:
    """At the selection's rate, and where it names none at its best."""
    runs = select_variant(sweep, where if "lr" in where else {**where, "lr": "best"})
    if len({run.lr for run in runs}) > 1:
        raise Undecidable(f"{selection_in_words(where)} selects several rates where losses at one are compared")
    return runs


def _sentence(
    criterion: Mapping[str, Any], num_seeds: int, num_dead: int, num_waiting: int, sides: Sequence[Sequence[RunResult]]
) -> str:
    keys = [key for key in ("of", "than") if key in criterion]
    names = [
        f"{selection_in_words({**criterion[key], 'lr': runs[0].lr} if runs[0].lr is not None else criterion[key])}"
        for key, runs in zip(keys, sides, strict=True)
    ]
    less = f" less that of {names[1]}" if len(names) > 1 else ""
    unit = "as a fraction of the latter" if criterion.get("relative") else "in nats per token"
    missing = [f"{num_dead} runs died"] if num_dead else []
    missing += [f"{num_waiting} have no result"] if num_waiting else []
    said = f" ({', '.join(missing)})" if missing else ""
    return f"The {criterion['measure']} validation loss of {names[0]}{less}, {unit}, over {num_seeds} seeds{said}."


def _bounds(criterion: Mapping[str, Any]) -> str:
    return " and ".join(f"{key} {criterion[key]:g}" for key in ("above", "below") if key in criterion)
