"""A criterion that cannot be evaluated is refused with its place, before any run."""

from typing import Any

import pytest

from normlab.core.errors import ConfigError
from normlab.report.criteria import check_criterion

DIES = {"kind": "runs", "where": {}, "that": {"outcome": "dead"}, "at_least": 1.0, "min_seeds": 3}


@pytest.mark.parametrize(
    ("criterion", "said"),
    [
        (None, "criterion must be a mapping"),
        ({"kind": ["runs"]}, "criterion.kind must be one of: runs, loss, order, all, any"),
        ({**DIES, "share": 1}, "criterion must have none but"),
        ({key: value for key, value in DIES.items() if key != "min_seeds"}, "criterion must have min_seeds"),
        ({**DIES, "at_most": 0.5}, "criterion must have either at_least or at_most"),
        ({**DIES, "at_least": 50}, "criterion.at_least must be a share from 0 to 1"),
        ({**DIES, "that": {}}, "criterion.that must be a mapping that is not empty"),
        ({**DIES, "that": {"outcome": "died"}}, "criterion.that.outcome must be dead, alive"),
        ({**DIES, "that": {"within_steps": 2.5}}, "criterion.that.within_steps must be a whole number"),
        ({**DIES, "that": {"statistic": {"tag": "x", "over": "mean", "above": 1}}}, "over must be one of: max, min"),
        ({**DIES, "that": {"statistic": {"tag": "x", "over": "max"}}}, "statistic must have above or below"),
        ({**DIES, "where": {"lr": {"best": 1}}}, "criterion.where.lr must have above and below, best_of"),
        ({**DIES, "where": {"lr": "fast"}}, "criterion.where.lr must be best, a number"),
        ({"kind": "loss", "of": {}, "measure": "last", "below": 1, "min_seeds": 1}, "measure must be final or best"),
        ({"kind": "order", "quantity": "luck", "ascending": [{}, {}], "min_seeds": 1}, "quantity must be frontier"),
        ({"kind": "order", "quantity": "loss", "ascending": [{}], "min_seeds": 1}, "a list of at least 2"),
        ({"kind": "all", "of": [DIES, {"kind": "no"}]}, r"criterion.of\[1\].kind must be one of"),
    ],
)
def test_a_criterion_that_cannot_be_evaluated_is_refused(criterion: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_criterion(criterion)
