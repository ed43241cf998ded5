"""The run state in a checkpoint, checked before a run relies on it."""

import math
import types
from dataclasses import fields, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from normlab.core.errors import CheckpointError
from normlab.core.records import decode_number
from normlab.core.strict_json import shown_name
from normlab.train.checkpoint import STATE, read_state
from normlab.train.state import RunState

FOLDER_PREFIX = "step_"
IN_EVERY_FORMAT = (
    "step", "tokens", "seconds", "final_train_loss", "final_val_loss", "best_val_loss", "outcome", "history",
)  # fmt: skip
NAMED_NUMBERS = ("NaN", "Infinity", "-Infinity")
FINITE = ("seconds", "best_val_loss", "history.initial_loss", "history.average", "history.weight")
NOT_NEGATIVE = ("seconds", "history.weight")
LARGEST_INTEGER = 2**53
LONGEST_TEXT = 1000


def read_run_state(path: Path) -> RunState:
    """The state of a run in the checkpoint ``path``, whose digests are verified; raises as :func:`run_state_from`."""
    return run_state_from(read_state(path), path)


def run_state_from(saved: dict[str, Any], path: Path) -> RunState:
    """The state of a run that the checkpoint ``path`` holds as ``saved``.

    Raises CheckpointError for a key that is missing or unknown, a value of a wrong type or out of range, and for a
    folder step_N that holds another step.
    """
    _check(saved, RunState, "", path / STATE)
    name = path.resolve().name
    if name.startswith(FOLDER_PREFIX) and name != f"{FOLDER_PREFIX}{saved['step']}":
        raise CheckpointError(f"{path / STATE} is of step {saved['step']}. Choose another checkpoint of the run.")
    return RunState.from_dict(saved)


def _check(value: Any, annotation: Any, key: str, source: Path) -> None:
    if isinstance(annotation, type) and is_dataclass(annotation):
        _check_fields(value, annotation, key, source)
    elif get_origin(annotation) is list:
        _demand(isinstance(value, list), key, "a list", value, source)
        for index, item in enumerate(value):
            _check(item, get_args(annotation)[0], f"{key}[{index}]", source)
    elif get_origin(annotation) in (Union, types.UnionType):
        if value is not None:
            (meant,) = (option for option in get_args(annotation) if option is not type(None))
            _check(value, meant, key, source)
    elif isinstance(annotation, type) and issubclass(annotation, Enum):
        legal = [str(member.value) for member in annotation]
        _demand(isinstance(value, str) and value in legal, key, f"one of {', '.join(legal)}", value, source)
    elif annotation is int:
        is_count = type(value) is int and 0 <= value <= LARGEST_INTEGER
        _demand(is_count, key, "a whole number of at least 0", value, source)
    elif annotation is str:
        is_line = isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_TEXT
        _demand(is_line, key, "a line of text", value, source)
    elif annotation is float:
        _check_number(value, key, source)
    else:
        raise TypeError(f"{key} of a run state has a type that is not checked: {annotation}")


def _check_fields(value: Any, expected: type, key: str, source: Path) -> None:
    _demand(isinstance(value, dict), key or "the state", "an object", value, source)
    annotations = get_type_hints(expected)
    inner = f"{key}." if key else ""
    unknown = next((name for name in value if name not in annotations), None)
    if unknown is not None:
        raise CheckpointError(
            f"{source} has the unknown key {shown_name(inner + unknown)}. Use the version that wrote it."
        )
    for field in fields(expected):  # type: ignore[arg-type]
        if field.name in value:
            _check(value[field.name], annotations[field.name], inner + field.name, source)
        elif inner or field.name in IN_EVERY_FORMAT:
            raise CheckpointError(f"{source} has no {inner}{field.name}. Choose another checkpoint of the run.")


def _check_number(value: Any, key: str, source: Path) -> None:
    is_integer = type(value) is int and abs(value) <= LARGEST_INTEGER
    is_named = isinstance(value, str) and value in NAMED_NUMBERS
    _demand(is_integer or is_named or type(value) is float, key, "a number", value, source)
    number = decode_number(value)
    _demand(key not in FINITE or math.isfinite(number), key, "a finite number", value, source)
    _demand(key not in NOT_NEGATIVE or number >= 0, key, "at least 0", value, source)


def _demand(is_met: bool, key: str, demand: str, value: Any, source: Path) -> None:
    if not is_met:
        raise CheckpointError(
            f"{shown_name(key)} in {source} must be {demand}; got {shown_name(value)}. Choose another checkpoint."
        )
