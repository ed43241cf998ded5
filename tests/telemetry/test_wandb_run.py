"""The files that W&B writes offline, read back."""

import json
import math
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.telemetry.services import COMPLETED, DIED, file_of_wandb, go_on, loss_at
from tests.telemetry.test_sinks import record_of

from normlab.telemetry.wandb_file import last_step_in, records_in
from normlab.telemetry.wandb_run import WandbSink

pytest.importorskip("wandb")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "seed=1,lr=0.1"
    folder.mkdir()
    return folder


OFFLINE = partial(WandbSink, project="norms", entity=None, group=None, tags=["try"], mode="offline")


def rows(path: Path) -> list[dict[str, Any]]:
    found = [record.history for record in records_in(path) if record.HasField("history")]
    return [{"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in row.item} for row in found]


def steps(path: Path) -> list[int]:
    return [row["_step"] for row in rows(path)]


def test_steps_choices_texts_pictures_and_the_end_are_read_back(run: Path) -> None:
    hooks = sys.exit, sys.excepthook
    go_on(OFFLINE, run, 1, 7, DIED)
    assert (sys.exit, sys.excepthook) == hooks
    path = file_of_wandb(run)
    by_step = {row["_step"]: row for row in rows(path)}
    assert list(by_step) == list(range(1, 8))
    assert math.isnan(by_step[3]["loss/train"]) and by_step[4]["loss/train"] == -math.inf
    assert by_step[7]["loss/train"] == loss_at(7)
    assert by_step[7]["attention_logit_max/layer_0/head_1"] == 2.0
    assert "attention_logit_max/layer_0/head_1" not in by_step[2]
    told = next(record.run for record in records_in(path) if record.HasField("run"))
    assert (told.project, told.display_name, told.run_group, list(told.tags)) == (
        "norms", run.name, "baseline, lr=0.01 (abcd1234)", ["try"],
    )  # fmt: skip
    config = {item.key: json.loads(item.value_json) for item in told.config.update}
    assert config["model/norm@model.qk_norm"] == "none" and config["optimizer.lr"] == 0.01
    assert [record.run.notes for record in records_in(path) if record.HasField("run")][-1] == "# died of é"
    picture = path.parent / "files" / by_step[7]["figures/autopsy/path"]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [record.exit.exit_code for record in records_in(path) if record.HasField("exit")] == [1]


def test_a_run_goes_on_under_the_same_id_and_no_step_is_there_twice(run: Path) -> None:
    go_on(OFFLINE, run, 1, 5, None)
    first = file_of_wandb(run)
    go_on(OFFLINE, run, 4, 7, COMPLETED)
    second = file_of_wandb(run)
    assert first != second
    assert first.name == second.name == f"run-{(run / 'wandb' / 'run_id').read_text()}.wandb"
    assert steps(first) + steps(second) == list(range(1, 8))


def test_a_file_that_was_cut_by_a_kill_is_read_as_far_as_it_goes_and_the_rest_is_sent_again(run: Path) -> None:
    go_on(OFFLINE, run, 1, 5, None)
    first = file_of_wandb(run)
    content = first.read_bytes()
    cut = next(size for size in range(len(content), 0, -50) if _last_step(content[:size], first) == 3)
    first.write_bytes(content[:cut])
    go_on(OFFLINE, run, 6, 7, COMPLETED)
    assert steps(first) + steps(file_of_wandb(run)) == list(range(1, 8))


def _last_step(content: bytes, path: Path) -> int:
    cut = path.with_suffix(".cut")
    cut.write_bytes(content)
    return last_step_in(cut)


def test_records_longer_than_a_block_are_put_together(run: Path) -> None:
    sink = OFFLINE(run, 1)
    for step in (1, 2, 3):
        sink.record(record_of(step, notes=("x" * (40_000 * step),)))
    sink.close()
    path = file_of_wandb(run)
    assert [(row["_step"], len(row["notes"])) for row in rows(path)] == [(1, 40_000), (2, 80_000), (3, 120_000)]


def test_online_without_a_key_is_said_with_what_to_type(
    run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NETRC", os.devnull)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    sink = WandbSink(run, 1, project="norms", entity=None, group=None, tags=[], mode="online")
    with pytest.raises(ValueError, match=r"Type wandb login, or logger\.wandb\.mode=offline"):
        sink.record(record_of(1))
    sink.close()
