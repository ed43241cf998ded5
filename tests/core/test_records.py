"""Records and JSON: what is written is strictly valid and reads back as what it was."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.core.records import Outcome, StepRecord, decode_number, encode_json

NONFINITE_NAMES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text().filter(lambda s: s not in NONFINITE_NAMES)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


def strict_loads(text: str):
    """Parse JSON as the standard has it: the bare words NaN and Infinity, which Python lets through, are refused."""

    def refuse(word: str) -> None:
        raise ValueError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def with_numbers(value):
    """Undo the naming of non-finite numbers."""
    if isinstance(value, list):
        return [with_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: with_numbers(item) for key, item in value.items()}
    return decode_number(value) if isinstance(value, str) and value in NONFINITE_NAMES else value


def a_record(**changes) -> StepRecord:
    values = {"step": 3, "tokens": 96, "seconds": 1.5, "lr": 0.01, "train_loss": 2.5, "grad_norm": 0.75}
    return StepRecord(**{**values, **changes})


@given(VALUES)
def test_json_is_strictly_valid_and_reads_back_to_the_same_value(value) -> None:
    assert repr(with_numbers(strict_loads(encode_json(value)))) == repr(value)


@pytest.mark.parametrize(("name", "number"), NONFINITE_NAMES.items())
def test_nonfinite_numbers_are_named_wherever_they_stand(name: str, number: float) -> None:
    assert strict_loads(encode_json({"a": [number, {"b": (number,)}]})) == {"a": [name, {"b": [name]}]}
    assert repr(decode_number(name)) == repr(number)


def test_a_finite_number_decodes_to_itself() -> None:
    assert decode_number(0.1) == 0.1


def test_text_stays_readable_and_an_outcome_is_its_name() -> None:
    assert encode_json({"é": Outcome.OUT_OF_MEMORY}) == '{"é": "out_of_memory"}'


def test_json_of_several_lines_is_indented() -> None:
    assert encode_json({"a": 1}, indent=2) == '{\n  "a": 1\n}'


def test_a_record_lists_its_fields_in_order_and_telemetry_last() -> None:
    record = a_record(val_loss=2.75, telemetry={"update_ratio/head": 0.001, "clamp_hit_rate/layer_0": 0.0})
    assert list(record.as_dict().items()) == [
        ("step", 3),
        ("tokens", 96),
        ("seconds", 1.5),
        ("lr", 0.01),
        ("train_loss", 2.5),
        ("grad_norm", 0.75),
        ("val_loss", 2.75),
        ("update_ratio/head", 0.001),
        ("clamp_hit_rate/layer_0", 0.0),
    ]


def test_a_record_has_no_validation_loss_where_none_was_measured() -> None:
    assert "val_loss" not in a_record().as_dict()


@pytest.mark.parametrize("val_loss", [0.0, math.nan])
def test_zero_and_nan_are_validation_losses(val_loss: float) -> None:
    assert repr(a_record(val_loss=val_loss).as_dict()["val_loss"]) == repr(val_loss)
