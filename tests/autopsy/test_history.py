"""From the records of a run to one series a statistic."""

import json
import math

from normlab.autopsy.history import history_from
from normlab.core.records import StepRecord, encode_json


def record(step: int, loss: float, **telemetry: float) -> dict[str, object]:
    made = StepRecord(
        step=step, tokens=0, seconds=0.0, lr=0.5, train_loss=loss, grad_norm=1.0, notes=("x",), telemetry=telemetry
    )
    return json.loads(encode_json(made.as_dict()))


def test_every_statistic_is_a_series_of_its_own_steps() -> None:
    history = history_from([record(1, 3.0, a=1.0), record(2, math.nan), record(3, math.inf, a=-math.inf)])
    assert set(history) == {"lr", "train_loss", "grad_norm", "a"}
    assert history["a"].steps.tolist() == [1, 3]
    assert history["a"].values.tolist() == [1.0, -math.inf]
    assert [str(value) for value in history["train_loss"].values] == ["3.0", "nan", "inf"]


def test_recomputed_records_replace_and_add_whatever_their_order() -> None:
    history = history_from([record(1, 3.0, a=1.0), record(4, 3.5), record(3, 2.5, a=2.0), record(4, 9.0, b=7.0)])
    assert history["train_loss"].steps.tolist() == [1, 3, 4]
    assert history["train_loss"].values.tolist() == [3.0, 2.5, 9.0]
    assert history["a"].values.tolist() == [1.0, 2.0]
    assert history["b"].steps.tolist() == [4]


def test_no_records_no_history() -> None:
    assert history_from([]) == {}
