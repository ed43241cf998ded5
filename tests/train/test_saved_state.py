"""The state in a checkpoint: what a run wrote comes back, of either format; what no run can have written is refused."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
from torch import nn, optim

from normlab.core.errors import CheckpointError
from normlab.core.records import Outcome, encode_json
from normlab.train.checkpoint import load_checkpoint, save_checkpoint
from normlab.train.instability import Action, Instability
from normlab.train.saved_state import read_run_state, run_state_from
from normlab.train.spikes import Spike, SpikeHistory
from normlab.train.state import LossHistory, RunState

HISTORY = LossHistory(initial_loss=5.5, average=2.5, weight=0.5, lowest=4.75, steps_above=2)
FULL = RunState(
    step=7,
    tokens=700,
    seconds=1.5,
    final_train_loss=math.inf,
    final_val_loss=-math.inf,
    best_val_loss=4.5,
    outcome=Outcome.DIVERGED,
    history=HISTORY,
    spikes=SpikeHistory(
        weight=0.5, first_step=3, peak=9.0, recovered=[Spike(first_step=1, recovered_step=2, peak=8.0, before=5.0)]
    ),
    instabilities=[
        Instability(step=4, outcome=Outcome.NONFINITE, action=Action.WENT_BACK, back_to=2, what="the loss"),
        Instability(step=5, outcome=Outcome.NONFINITE, action=Action.WENT_ON, what="é"),
    ],
)
FORMAT_1_STATE = {
    "step": 7,
    "tokens": 700,
    "seconds": 1.5,
    "final_train_loss": "NaN",
    "final_val_loss": None,
    "best_val_loss": 4.5,
    "outcome": "interrupted",
    "history": {"initial_loss": 5.5, "average": 2.5, "weight": 0.5, "lowest": "Infinity", "steps_above": 2},
}


def saved(path: Path, state: dict[str, Any]) -> Path:
    model = nn.Linear(2, 2)
    save_checkpoint(path, model, optim.SGD(model.parameters(), lr=0.1), state)
    return path


@pytest.mark.parametrize("state", [FULL, RunState(), RunState(step=7, instabilities=FULL.instabilities)])
def test_what_a_run_knows_comes_back(tmp_path: Path, state: RunState) -> None:
    assert read_run_state(saved(tmp_path / f"step_{state.step}", state.as_dict())) == state


def test_a_checkpoint_of_format_1_is_read_and_what_it_lacks_begins_empty(tmp_path: Path) -> None:
    path = saved(tmp_path / "step_7", FORMAT_1_STATE)
    names = ("model.safetensors", "optimizer.safetensors", "state.json")
    digests = {name: hashlib.sha256((path / name).read_bytes()).hexdigest() for name in names}
    (path / "manifest.json").write_text(json.dumps({"format": 1, "sha256": digests}, indent=2) + "\n")
    state = read_run_state(path)
    assert math.isnan(state.final_train_loss or 0.0) and state.outcome is None
    assert (state.step, state.best_val_loss, state.history.lowest) == (7, 4.5, math.inf)
    assert state.spikes == SpikeHistory() and state.instabilities == []
    assert load_checkpoint(path, nn.Linear(2, 2))["step"] == 7


def test_a_folder_named_for_another_step_was_swapped(tmp_path: Path) -> None:
    path = saved(tmp_path / "step_8", FULL.as_dict())
    with pytest.raises(CheckpointError, match=r"step_8/state\.json is of step 7"):
        read_run_state(path)
    path.rename(tmp_path / "copy")
    assert read_run_state(tmp_path / "copy").step == 7


WRONG = {
    "step": [-1, 1.0, True, "7", None, [], {}, 2**60, "NaN"],
    "tokens": [-1, 0.5],
    "seconds": [-1.0, "NaN", "Infinity", None, "1.5"],
    "final_train_loss": ["nan", "low", [], {}, True, 10**400],
    "best_val_loss": ["NaN", "Infinity"],
    "outcome": ["finished", 3, [], {}, "COMPLETED"],
    "history": [None, [], 3, {}, {"initial_loss": 1.0}],
    "history.weight": [-0.5, "NaN"],
    "history.average": ["NaN", None],
    "history.steps_above": [-1, 0.5],
    "spikes": [None, [], {"mean": 0.0}],
    "spikes.recovered": [None, {}, [3], [[]], [{"first_step": 1}]],
    "instabilities": [None, {}, "x", [None], [{"step": 1}]],
    "instabilities.what": [None, 3, "a\nb", "\x1b[31m", "x" * 10_000],
}
CASES = [(key, value) for key, values in WRONG.items() for value in values]


@pytest.mark.parametrize(("key", "value"), CASES)
def test_a_value_that_no_run_has_is_refused_by_its_key(key: str, value: object) -> None:
    state = json.loads(encode_json(FULL.as_dict()))
    run_state_from(state, Path("step_7"))
    *outer, name = key.split(".")
    inner = state[outer[0]] if outer else state
    inner = inner[0] if isinstance(inner, list) else inner
    inner[name] = value
    with pytest.raises(CheckpointError) as caught:
        run_state_from(state, Path("step_7"))
    line = str(caught.value)
    assert name in line and "step_7/state.json" in line and "\n" not in line and len(line) < 300


@pytest.mark.parametrize("key", FORMAT_1_STATE)
def test_a_key_that_every_format_has_must_be_there(key: str) -> None:
    state = {name: value for name, value in FORMAT_1_STATE.items() if name != key}
    with pytest.raises(CheckpointError, match=f"has no {key}"):
        run_state_from(state, Path("step_7"))


@pytest.mark.parametrize("key", ["__class__", "os.system", "a\nb\x1b[31m\ud800", "x" * 10_000])
def test_an_unknown_key_is_refused_and_shown_harmlessly(key: str) -> None:
    with pytest.raises(CheckpointError, match="has the unknown key '") as caught:
        run_state_from({**FORMAT_1_STATE, key: 1}, Path("step_7"))
    line = str(caught.value)
    assert line.isascii() and line.isprintable() and len(line) < 300
