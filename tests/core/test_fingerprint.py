"""Equal configurations have equal fingerprints, whatever their order; unequal ones do not."""

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.core.fingerprint import fingerprint

CONFIG: dict[str, Any] = {
    "seed": 0,
    "model": {"width": 32, "norm": {"eps": 1e-5}, "tied": False, "slots": ["input", "final"]},
    "trainer": {"grad_clip": None, "steps": 600},
}


def in_reverse_order(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: in_reverse_order(value[key]) for key in reversed(value)}
    return [in_reverse_order(item) for item in value] if isinstance(value, list) else value


def test_it_is_the_sha256_of_the_json_with_sorted_keys() -> None:
    expected = hashlib.sha256(b'{"a": [1, {"c": "NaN", "d": null}], "b": 0.1}').hexdigest()
    assert fingerprint({"b": 0.1, "a": (1, {"d": None, "c": float("nan")})}) == expected


@given(
    st.recursive(
        st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=15,
    )
)
def test_the_order_of_keys_does_not_matter_at_any_depth(value: Any) -> None:
    assert fingerprint({"a": value, "b": 1}) == fingerprint(in_reverse_order({"a": value, "b": 1}))


@pytest.mark.parametrize(
    "changed",
    [
        {**CONFIG, "seed": 1},
        {**CONFIG, "model": {**CONFIG["model"], "width": 33}},
        {**CONFIG, "model": {**CONFIG["model"], "norm": {"eps": 1.0000000000000002e-5}}},
        {**CONFIG, "model": {**CONFIG["model"], "tied": True}},
        {**CONFIG, "model": {**CONFIG["model"], "slots": ["final", "input"]}},
        {**CONFIG, "model": {**CONFIG["model"], "slots": ["input"]}},
        {**CONFIG, "trainer": {"grad_clip": 0.0, "steps": 600}},
        {**CONFIG, "trainer": {"steps": 600}},
        {**CONFIG, "another": None},
    ],
)
def test_every_value_matters(changed: dict[str, Any]) -> None:
    assert fingerprint(changed) != fingerprint(CONFIG)
