"""What a run says of itself: one record a step, one outcome, and their form as JSON."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a run ended. Diverged and nonfinite are results, not failures."""

    COMPLETED = "completed"
    DIVERGED = "diverged"
    NONFINITE = "nonfinite"
    INTERRUPTED = "interrupted"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One optimizer step. Losses are in nats per token; ``tokens`` and ``seconds`` count from the run's start.

    ``notes`` are sentences about what happened in it that a person should know.
    """

    step: int
    tokens: int
    seconds: float
    lr: float
    train_loss: float
    grad_norm: float
    val_loss: float | None = None
    notes: tuple[str, ...] = ()
    telemetry: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The record's fields in their order, without what there was none of, then telemetry."""
        fields = {name: value for name, value in vars(self).items() if value not in (None, ()) and name != "telemetry"}
        return {**fields, **self.telemetry}


def encode_json(value: Any, indent: int | None = None) -> str:
    """Strictly valid JSON: non-finite numbers become the strings "NaN", "Infinity" and "-Infinity"."""
    return json.dumps(_name_nonfinite(value), indent=indent, allow_nan=False, ensure_ascii=False)


def decode_number(value: float | str) -> float:
    """The number that :func:`encode_json` wrote, its three named values among them."""
    return float(value)


def _name_nonfinite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _name_nonfinite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_name_nonfinite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
