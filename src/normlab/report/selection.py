"""Which runs of a sweep a criterion speaks of."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from normlab.report.losses import has_result
from normlab.report.rate_grid import best_rate
from normlab.report.results import RunResult, SweepResult
from normlab.report.variants import label_of, variant_of

RateTest = Callable[[float | None], bool]


class Undecidable(ValueError):
    """The runs that there are do not decide a claim; the message says why, in words that follow a colon."""


def select(sweep: SweepResult, where: Mapping[str, Any]) -> list[RunResult]:
    """The matching runs, those that have not begun among them; runs known under several names once.

    Raises Undecidable where none matches, or the rate it speaks of is not known.
    """
    choices = {key: value for key, value in where.items() if key != "lr"}
    matching = [run for run in [*sweep.runs, *sweep.not_begun] if _has(run, choices)]
    matching = list({run.folder: run for run in reversed(matching)}.values())[::-1]
    if "lr" in where:
        admits = _rate_test(sweep, where["lr"], choices)
        matching = [run for run in matching if admits(run.lr)]
    if not matching:
        raise Undecidable(f"the sweep has no run of {selection_in_words(where)}")
    return matching


def select_variant(sweep: SweepResult, where: Mapping[str, Any]) -> list[RunResult]:
    """The same, of one variant; raises Undecidable also where several match."""
    runs = select(sweep, where)
    variants = {variant_of(run) for run in runs}
    if len(variants) > 1:
        raise Undecidable(f"{selection_in_words(where)} selects {len(variants)} variants where one is compared")
    return runs


def selection_in_words(where: Mapping[str, Any]) -> str:
    """``norm=none, clamp=hard, lr=0.01``."""
    words = {key: "|".join(map(str, value)) if isinstance(value, list) else str(value) for key, value in where.items()}
    rate = where.get("lr")
    if isinstance(rate, Mapping):
        del words["lr"]
        said = [
            f"{key.replace('_', ' ')} {selection_in_words(value) if isinstance(value, Mapping) else value}"
            for key, value in rate.items()
        ]
        return ", ".join([label_of(words), f"lr {' and '.join(said)}"] if words else [f"lr {' and '.join(said)}"])
    return label_of(words)


def best_known_rate(runs: Sequence[RunResult], name: str) -> float | None:
    """The best rate of one variant; raises Undecidable while runs that may change it have no result."""
    waiting = sum(not has_result(run) for run in runs)
    rate = best_rate(runs)
    if waiting or rate is None:
        raise Undecidable(
            f"the best rate of {name} is not known while {waiting} of its {len(runs)} runs have no result"
        )
    return rate.lr


def _rate_test(sweep: SweepResult, rate: Any, choices: Mapping[str, Any]) -> RateTest:
    if rate == "best":
        best = best_known_rate(select_variant(sweep, choices), selection_in_words(choices))
        return lambda lr: lr == best
    if not isinstance(rate, Mapping):
        return lambda lr: _is_one_of(lr, rate)
    if "best_of" in rate:
        other = _best_of(sweep, rate["best_of"])
        return lambda lr: lr == other
    if "below_best_of" in rate:
        bound = _best_of(sweep, rate["below_best_of"])
        return lambda lr: lr is not None and lr < bound
    low, high = rate.get("above", float("-inf")), rate.get("below", float("inf"))
    return lambda lr: lr is not None and low < lr < high


def _best_of(sweep: SweepResult, where: Mapping[str, Any]) -> float:
    best = best_known_rate(select_variant(sweep, where), selection_in_words(where))
    if best is None:
        raise Undecidable(f"the runs of {selection_in_words(where)} have no rate")
    return best


def _has(run: RunResult, choices: Mapping[str, Any]) -> bool:
    """What the sweep did not vary is looked up in the run's own overrides."""
    overrides = run.facts.get("overrides", {})
    found = {key: run.choices.get(key, overrides.get(key)) for key in choices}
    return all(found[key] is not None and _is_one_of(found[key], wanted) for key, wanted in choices.items())


def _is_one_of(found: object, wanted: Any) -> bool:
    return any(_same(found, value) for value in (wanted if isinstance(wanted, list) else [wanted]))


def _same(found: object, wanted: object) -> bool:
    """As text, or as numbers where both are (30 is 30.0)."""
    if str(found).lower() == str(wanted).lower():
        return True
    try:
        return float(str(found)) == float(str(wanted))
    except ValueError:
        return False
