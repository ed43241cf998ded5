"""MLflow's store in a local folder, read back by MLflow's own client."""

import math
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from tests.telemetry.services import COMPLETED, DIED, go_on, loss_at

from normlab.telemetry.mlflow_run import MlflowSink, metric_name, parameter_name

pytest.importorskip("mlflow")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "seed=1,lr=0.1"
    folder.mkdir()
    return folder


@pytest.fixture
def opened(tmp_path: Path):
    return partial(MlflowSink, tracking_uri=str(tmp_path / "mlruns"), experiment="norms")


def client_of(run: Path):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=str(run.parent / "mlruns"))


def steps(run: Path, metric: str) -> list[tuple[int, float]]:
    history = client_of(run).get_metric_history((run / "mlflow_run_id").read_text(), metric)
    return [(point.step, point.value) for point in history]


def test_steps_choices_texts_pictures_and_the_end_are_read_back(run: Path, opened) -> None:
    go_on(opened, run, 1, 7, DIED)
    client = client_of(run)
    experiment = client.get_experiment_by_name("norms")
    assert experiment is not None
    [found] = client.search_runs([experiment.experiment_id])
    assert found.info.run_name == run.name and found.info.status == "FAILED"
    assert found.data.params == {
        "init": "xavier", "init.scale": "unit", "model.norm:model.qk_norm": "none", "optimizer.lr": "0.01",
    }  # fmt: skip
    assert found.data.tags["arm"] == "baseline, lr=0.01 (abcd1234)"
    assert found.data.tags["mlflow.note.content"] == "# died of é"
    losses = steps(run, "loss/train")
    assert [step for step, _ in losses] == list(range(1, 8))
    assert math.isnan(losses[2][1]) and losses[3][1] == -math.inf and losses[6][1] == loss_at(7)
    assert steps(run, "attention_logit_max/layer_0.head_1") == [(step, 2.0) for step in (1, 3, 5, 7)]
    assert steps(run, "outcome/diverged") == [(7, 1.0)]
    artifacts = run.parent / "mlruns" / experiment.experiment_id / found.info.run_id / "artifacts"
    assert (artifacts / "figures" / "autopsy" / "step_000007.png").read_bytes().startswith(b"\x89PNG")
    assert (artifacts / "autopsy.md").read_text() == "# died of é"


def test_a_run_goes_on_in_the_same_place_and_no_step_is_there_twice(run: Path, opened) -> None:
    go_on(opened, run, 1, 5, None)
    first = (run / "mlflow_run_id").read_text()
    assert client_of(run).get_run(first).info.status == "KILLED"
    go_on(opened, run, 4, 7, COMPLETED)
    assert (run / "mlflow_run_id").read_text() == first
    assert [step for step, _ in steps(run, "loss/train")] == list(range(1, 8))
    assert [step for step, _ in steps(run, "lr")] == list(range(1, 8))
    assert client_of(run).get_run(first).info.status == "FINISHED"


def test_what_a_killed_process_had_not_sent_is_sent_when_the_run_goes_on(
    run: Path, opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(MlflowSink, "_flush", lambda self: None)
        go_on(opened, run, 1, 5, None)
    assert steps(run, "lr") == []
    go_on(opened, run, 5, 7, COMPLETED)
    losses = steps(run, "loss/train")
    assert [step for step, _ in losses] == list(range(1, 8)) and math.isnan(losses[2][1])


def test_a_run_that_was_deleted_is_begun_anew_with_all_its_steps(run: Path, opened) -> None:
    go_on(opened, run, 1, 4, None)
    client_of(run).delete_run((run / "mlflow_run_id").read_text())
    go_on(opened, run, 5, 6, COMPLETED)
    assert [step for step, _ in steps(run, "loss/train")] == list(range(1, 7))


def test_runs_that_start_together_share_an_experiment(tmp_path: Path, opened) -> None:
    def start(number: int) -> None:
        folder = tmp_path / f"seed={number}"
        folder.mkdir()
        go_on(opened, folder, 1, 1, None)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(start, range(4)))
    experiments = client_of(tmp_path / "seed=0").search_experiments()
    assert sorted(experiment.name for experiment in experiments) == ["Default", "norms"]


def test_an_experiment_that_another_machine_makes_meanwhile_is_taken(
    run: Path, opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    find, asked = MlflowClient.get_experiment_by_name, []

    def found_late(self, name: str):
        asked.append(name)
        if len(asked) > 1:
            return find(self, name)
        self.create_experiment(name)
        return None

    monkeypatch.setattr(MlflowClient, "get_experiment_by_name", found_late)
    go_on(opened, run, 1, 2, None)
    assert [step for step, _ in steps(run, "loss/train")] == [1, 2]


def test_a_second_autopsy_changes_nothing_but_its_text(run: Path, opened) -> None:
    go_on(opened, run, 1, 3, DIED)
    sink = opened(run, 5)
    sink.text("autopsy", "told again")
    sink.close()
    found = client_of(run).get_run((run / "mlflow_run_id").read_text())
    assert found.info.status == "FAILED" and found.data.tags["mlflow.note.content"] == "told again"


def test_no_name_is_the_folder_of_another() -> None:
    assert metric_name("attention_logit_max/layer_0/head_1") == "attention_logit_max/layer_0.head_1"
    assert parameter_name("model/norm@model.qk_norm") == "model.norm:model.qk_norm"
