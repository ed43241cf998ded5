"""The language in which a claim's criterion is written down before the sweep, and the check of what was written.

A criterion is a mapping with a ``kind``:

``runs``   where, that, at_least | at_most (a share), min_seeds; among
    The share of the runs in ``where`` (of those ``among`` them) for which ``that`` holds.
``loss``   of, measure (final | best), above and | or below, min_seeds; than, relative
    Validation loss of one variant at its best rate; with ``than`` less that of another one on shared seeds, with
    ``relative: true`` as a fraction of it.
``order``  quantity, ascending (two or more selections), min_seeds
    On every shared seed each selection's quantity is below the next one's: ``frontier`` (largest stable rate),
    ``sensitivity``, ``best_rate``, ``loss``, ``death_step``, or a statistic.
``all``, ``any``   of: a list of criteria

A *selection* (where, of, than, relative_to) gives values to choices, one or a list; ``lr`` may also be
{above, below}, ``best`` (of the selected runs themselves), {best_of: selection} or {below_best_of: selection}.

A *condition* (that, among) is all of: ``outcome`` (dead, alive, or an outcome), ``within_steps`` and ``after_steps``
(the last step taken), ``cause_kind``, ``cause_site`` (with * as wildcard) and ``cause_layer`` of a death, one value or
a list, and ``statistic``.

A *statistic* reads the recorded steps: ``tag`` (with *; of several the largest at each step), ``over`` (max, min,
first, last), ``from_step``, ``to_step``; in a condition also ``above`` and | or ``below``, and ``relative_to``: divided
by that of the selected run of the same seed, and of the same rate unless it names one.
"""

from collections.abc import Mapping
from typing import Any

from normlab.core.errors import ConfigError
from normlab.core.records import Outcome

KEYS = {
    "runs": ({"where", "that", "min_seeds"}, {"among", "at_least", "at_most"}),
    "loss": ({"of", "measure", "min_seeds"}, {"than", "relative", "above", "below"}),
    "order": ({"quantity", "ascending", "min_seeds"}, set()),
    "all": ({"of"}, set()),
    "any": ({"of"}, set()),
}
OUTCOMES = ("dead", "alive", *map(str, Outcome))
CONDITION = {"outcome", "within_steps", "after_steps", "cause_kind", "cause_site", "cause_layer", "statistic"}
QUANTITIES = ("frontier", "sensitivity", "best_rate", "loss", "death_step")
OVER = ("max", "min", "first", "last")
RATE_KEYS = ({"above"}, {"below"}, {"above", "below"}, {"best_of"}, {"below_best_of"})


def check_criterion(criterion: Any, at: str = "criterion") -> None:
    """Raise ConfigError, with the place and what it may hold, where a criterion cannot be evaluated."""
    _require(isinstance(criterion, Mapping), at, "be a mapping", criterion)
    kind = criterion.get("kind")
    _require(isinstance(kind, str) and kind in KEYS, f"{at}.kind", f"be one of: {', '.join(KEYS)}", kind)
    needed, optional = KEYS[kind]
    _check_keys({key: value for key, value in criterion.items() if key != "kind"}, at, needed, optional)
    if "min_seeds" in criterion:
        _check_count(criterion, "min_seeds", at)
    match kind:
        case "all" | "any":
            _check_list(criterion["of"], f"{at}.of", least=1)
            for index, part in enumerate(criterion["of"]):
                check_criterion(part, f"{at}.of[{index}]")
        case "runs":
            _check_selection(criterion["where"], f"{at}.where")
            _check_condition(criterion["that"], f"{at}.that")
            if "among" in criterion:
                _check_condition(criterion["among"], f"{at}.among")
            shares = [key for key in ("at_least", "at_most") if key in criterion]
            _require(len(shares) == 1, at, "have either at_least or at_most", shares)
            share = criterion[shares[0]]
            _require(_is_number(share) and 0 <= share <= 1, f"{at}.{shares[0]}", "be a share from 0 to 1", share)
        case "loss":
            for key in {"of", "than"} & criterion.keys():
                _check_selection(criterion[key], f"{at}.{key}")
            measure = criterion["measure"]
            _require(measure in ("final", "best"), f"{at}.measure", "be final or best", measure)
            _require("than" in criterion or not criterion.get("relative"), f"{at}.relative", "come with than", True)
            _check_bounds(criterion, at)
        case "order":
            _check_quantity(criterion["quantity"], f"{at}.quantity")
            _check_list(criterion["ascending"], f"{at}.ascending", least=2)
            for index, selection in enumerate(criterion["ascending"]):
                _check_selection(selection, f"{at}.ascending[{index}]")


def _check_selection(selection: Any, at: str) -> None:
    _require(isinstance(selection, Mapping), at, "be a mapping from choices to values", selection)
    rate = selection.get("lr")
    if isinstance(rate, Mapping):
        _require(set(rate) in RATE_KEYS, f"{at}.lr", "have above and below, best_of or below_best_of", list(rate))
        for key, value in rate.items():
            if key in ("above", "below"):
                _require(_is_number(value), f"{at}.lr.{key}", "be a number", value)
            else:
                _check_selection(value, f"{at}.lr.{key}")
    elif rate is not None and rate != "best":
        values = rate if isinstance(rate, list) else [rate]
        _require(bool(values) and all(map(_is_number, values)), f"{at}.lr", "be best, a number or a list of them", rate)


def _check_condition(condition: Any, at: str) -> None:
    _require(isinstance(condition, Mapping) and bool(condition), at, "be a mapping that is not empty", condition)
    _check_keys(condition, at, set(), CONDITION)
    if "outcome" in condition:
        _require(condition["outcome"] in OUTCOMES, f"{at}.outcome", f"be {', '.join(OUTCOMES)}", condition["outcome"])
    for key in {"within_steps", "after_steps"} & condition.keys():
        _check_count(condition, key, at)
    if "statistic" in condition:
        _check_statistic(condition["statistic"], f"{at}.statistic", {"above", "below", "relative_to"})
        _check_bounds(condition["statistic"], f"{at}.statistic")
        if "relative_to" in condition["statistic"]:
            _check_selection(condition["statistic"]["relative_to"], f"{at}.statistic.relative_to")


def _check_quantity(quantity: Any, at: str) -> None:
    if isinstance(quantity, Mapping):
        _check_keys(quantity, at, {"statistic"}, set())
        _check_statistic(quantity["statistic"], f"{at}.statistic", set())
    else:
        _require(quantity in QUANTITIES, at, f"be {', '.join(QUANTITIES)} or a mapping with a statistic", quantity)


def _check_statistic(statistic: Any, at: str, also: set[str]) -> None:
    _require(isinstance(statistic, Mapping), at, "be a mapping", statistic)
    _check_keys(statistic, at, {"tag", "over"}, {"from_step", "to_step", *also})
    _require(isinstance(statistic["tag"], str), f"{at}.tag", "be text", statistic["tag"])
    _require(statistic["over"] in OVER, f"{at}.over", f"be one of: {', '.join(OVER)}", statistic["over"])
    for key in {"from_step", "to_step"} & statistic.keys():
        _check_count(statistic, key, at)


def _check_bounds(criterion: Mapping[str, Any], at: str) -> None:
    given = {key: criterion[key] for key in ("above", "below") if key in criterion}
    _require(bool(given) and all(map(_is_number, given.values())), at, "have above or below, as numbers", given)


def _check_list(value: Any, at: str, least: int) -> None:
    _require(isinstance(value, list) and len(value) >= least, at, f"be a list of at least {least}", value)


def _check_keys(found: Mapping[str, Any], at: str, needed: set[str], optional: set[str]) -> None:
    for key in sorted(needed):
        _require(key in found, at, f"have {key}", sorted(found))
    for key in found:
        _require(key in needed | optional, at, f"have none but {', '.join(sorted(needed | optional))}", key)


def _require(holds: bool, at: str, what: str, got: object) -> None:
    if not holds:
        raise ConfigError(f"{at} must {what}; got {got!r}. See normlab/report/criteria.py for what can be written.")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_count(found: Mapping[str, Any], key: str, at: str) -> None:
    value = found[key]
    _require(type(value) is int and value >= 1, f"{at}.{key}", "be a whole number from 1", value)
