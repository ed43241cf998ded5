"""The node ``study`` of an experiment: what it may hold, and what is said of one that cannot be run."""

from typing import Any

import pytest
from omegaconf import OmegaConf

from normlab.app.sweeps.study import Study, as_typed, study_of
from normlab.core.errors import ConfigError

RUNS = {"kind": "runs", "where": {}, "that": {"outcome": "alive"}, "at_least": 1.0, "min_seeds": 1}
CLAIM = {"id": "one", "text": "It lives.", "criterion": RUNS}


def study(node: Any) -> Study:
    return study_of(OmegaConf.create({"study": node}))


def test_values_are_as_one_types_them() -> None:
    found = study(
        {
            "question": "Why?",
            "baseline": {"trainer.grad_clip": 1.0},
            "arms": [{"trainer.grad_clip": None, "trainer.compile": True}, {"init.scale.roles": ["ffn_down", "head"]}],
            "grid": {"seed": "range(3)", "optimizer.lr": 0.003},
        }
    )
    assert found.baseline == {"trainer.grad_clip": "1.0"}
    assert found.arms == [
        {"trainer.grad_clip": "null", "trainer.compile": "true"},
        {"init.scale.roles": "[ffn_down,head]"},
    ]
    assert found.grid == {"seed": "range(3)", "optimizer.lr": "0.003"}
    assert as_typed("none") == "none"


def test_no_study_is_one_run_of_what_is_typed() -> None:
    assert study_of(OmegaConf.create({"seed": 0})) == study(None) == Study()
    assert list(study({"question": "Why?"}).arms) == [{}]


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ("text", "study must be a mapping; got 'text'"),
        ({"quest": "?"}, "study must have none but question, baseline, arms, grid, claims (question?); got 'quest'"),
        ({"arms": {"a": 1}}, "study.arms must list mappings"),
        ({"arms": ["model/norm=none"]}, "study.arms must list mappings"),
        ({"grid": ["seed=0"]}, "study.grid must be a mapping from keys to sweeps"),
        ({"baseline": "rmsnorm"}, "study.baseline must map choices to values; got 'rmsnorm'"),
        ({"claims": {"id": "a"}}, "study.claims must be a list"),
        ({"claims": [{"id": "a", "text": "b"}]}, "study.claims[0] must have id, text and criterion"),
        ({"claims": [{**CLAIM, "more": 1}]}, "study.claims[0] must have id, text and criterion"),
        ({"claims": [CLAIM, CLAIM]}, "study.claims must have an id each of their own; got ['one', 'one']"),
        ({"claims": [{**CLAIM, "criterion": {"kind": "guess"}}]}, "study.claims[0].criterion"),
    ],
)
def test_a_study_that_cannot_be_run_gets_one_line(node: Any, said: str) -> None:
    with pytest.raises(ConfigError) as error:
        study(node)
    assert said in str(error.value) and "\n" not in str(error.value)
