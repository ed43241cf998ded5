"""A claim about a share of runs: how many of them are as it says."""

from collections.abc import Mapping
from typing import Any

from normlab.report.conditions import holds, statistic_in
from normlab.report.outcomes import cause_words
from normlab.report.results import RunResult, SweepResult
from normlab.report.selection import select, selection_in_words


def verdict_on_runs(criterion: Mapping[str, Any], sweep: SweepResult) -> tuple[bool | None, str]:
    """Met, not met, or undecided while the runs of which it is not known could still tip the share.

    Undecided also where those of which it is known are of fewer than ``min_seeds`` seeds. Raises Undecidable where no
    run is meant.
    """
    among = criterion.get("among", {})
    found: list[tuple[RunResult, bool]] = []
    num_unknown = 0
    for run in select(sweep, criterion["where"]):
        belongs = holds(among, run, sweep) if among else True
        is_so = holds(criterion["that"], run, sweep)
        if belongs is False:
            continue
        if belongs is None or is_so is None:
            num_unknown += 1
        else:
            found.append((run, is_so))
    num, so = len(found), sum(is_so for _, is_so in found)
    seeds = {run.seed for run, _ in found}
    sentence = _sentence(criterion, sweep, found, num_unknown)
    if len(seeds) < criterion["min_seeds"]:
        return None, f"{sentence} That is of {len(seeds)} seeds; {criterion['min_seeds']} are required."
    lowest, highest = so / (num + num_unknown), (so + num_unknown) / (num + num_unknown)
    if "at_least" in criterion:
        share = criterion["at_least"]
        return (True if lowest >= share else False if highest < share else None), sentence
    share = criterion["at_most"]
    return (True if highest <= share else False if lowest > share else None), sentence


def _sentence(
    criterion: Mapping[str, Any], sweep: SweepResult, found: list[tuple[RunResult, bool]], num_unknown: int
) -> str:
    so = sum(is_so for _, is_so in found)
    bound = "at least" if "at_least" in criterion else "at most"
    share = criterion.get("at_least", criterion.get("at_most"))
    among = f" that are {condition_in_words(criterion['among'])}" if "among" in criterion else ""
    said = (
        f"Of {len(found)} runs of {selection_in_words(criterion['where'])}{among}, {so} are "
        f"{condition_in_words(criterion['that'])}; claimed: {bound} {share:.0%}"
    )
    unknown = f"; of {num_unknown} more it is not known" if num_unknown else ""
    return f"{said}{unknown}{_numbers(criterion['that'], sweep, [run for run, _ in found])}."


def _numbers(condition: Mapping[str, Any], sweep: SweepResult, runs: list[RunResult]) -> str:
    """What was found: statistics, and when and of what the dead died."""
    said = ""
    if "statistic" in condition:
        values = [value for run in runs if (value := statistic_in(condition["statistic"], run, sweep)) is not None]
        said += f"; found {min(values):.3g} to {max(values):.3g}" if values else ""
    dead = [run for run in runs if run.is_dead]
    if dead:
        steps = sorted(run.steps for run in dead)
        causes = sorted({cause_words(run) for run in dead})
        said += f"; {len(dead)} died, at steps {steps[0]} to {steps[-1]}: {' | '.join(causes[:3])}"
        said += f" and {len(causes) - 3} other causes" if len(causes) > 3 else ""
    return said


def condition_in_words(condition: Mapping[str, Any]) -> str:
    """``dead, within 60 steps``."""
    words = []
    for key, value in condition.items():
        match key:
            case "outcome":
                words.append(str(value))
            case "within_steps" | "after_steps":
                words.append(f"ended {key.partition('_')[0]} {value} steps")
            case "statistic":
                words.append(f"with {statistic_in_words(value)}")
            case _:
                shown = " or ".join(map(str, value)) if isinstance(value, list) else str(value)
                words.append(f"with {key.replace('_', ' ')} {shown}")
    return ", ".join(words)


def statistic_in_words(statistic: Mapping[str, Any]) -> str:
    """``max of attention_logit_max/* above 10000``."""
    said = f"{statistic['over']} of {statistic['tag']}"
    for key in ("from_step", "to_step", "above", "below"):
        if key in statistic:
            said += f" {key.replace('_', ' ')} {statistic[key]:g}"
    if "relative_to" in statistic:
        said += f" times that of {selection_in_words(statistic['relative_to'])}"
    return said
