"""The group logger through the command line: several at once, none, missing packages, wrong keys, older runs."""

import sys
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.app.test_resume import stop_after
from tests.telemetry.services import file_of_wandb

from normlab.app.loggers import sink_makers
from normlab.core.run_folder import RunFolder
from normlab.telemetry.wandb_file import records_in

SMALL = (
    "model=micro", "tokenizer=bytes", "trainer.steps=4", "trainer.val_tokens=64", "schedule.warmup_steps=1",
    "trainer.checkpoint_every=2", "telemetry=none", "hydra.run.dir=run",
)  # fmt: skip
OLD = {"_target_": "normlab.telemetry.tensorboard.TensorBoardSink", "_partial_": True}


def test_several_at_once_have_every_step_once_after_one_was_taken_again(
    command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for service in ("mlflow", "wandb"):
        pytest.importorskip(service)
    stop_after(3, command, monkeypatch, *SMALL, *text_data, "logger=[tensorboard,csv,mlflow,wandb]")
    run = RunFolder(tmp_path / "run")
    stopped = file_of_wandb(run.path)
    (run.checkpoints / "step_3" / "model.safetensors").write_bytes(b"damaged")
    said = command("resume=run")
    assert said.exit_code == 0 and "Falling back to step_2" in said.err
    assert "off from now on" not in said.err

    losses = {record["step"]: record["train_loss"] for record in run.read_metrics()}
    assert list(losses) == [1, 2, 3, 4]
    assert pd.read_csv(run.path / "metrics.csv", index_col="step").train_loss.to_dict() == losses
    events = EventAccumulator(str(run.tensorboard))
    events.Reload()
    points = [(event.step, event.value) for event in events.Scalars("loss/train")]
    assert points == [(step, pytest.approx(loss)) for step, loss in losses.items()]
    assert in_mlflow(tmp_path, run) == list(losses.items())
    assert in_wandb([stopped, file_of_wandb(run.path)]) == losses


def in_mlflow(folder: Path, run: RunFolder) -> list[tuple[int, float]]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=str(folder / "mlruns"))
    history = client.get_metric_history((run.path / "mlflow_run_id").read_text(), "loss/train")
    return [(point.step, point.value) for point in history]


def in_wandb(files: list[Path]) -> dict[int, float]:
    """Raises where a step is there twice."""
    found: dict[int, float] = {}
    for path in files:
        for record in records_in(path):
            values = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
            if "loss/train" in values:
                step = int(values["_step"])
                assert step not in found
                found[step] = float(values["loss/train"])
    return found


def test_none_leaves_no_file(command, text_data, tmp_path: Path) -> None:
    said = command(*SMALL, *text_data, "trainer.steps=1", "logger=none")
    assert said.exit_code == 0, said.err
    made = {path.name for path in (tmp_path / "run").iterdir()}
    assert "metrics.jsonl" in made and not made & {"tensorboard", "metrics.csv", "wandb", "mlflow_run_id"}


@pytest.mark.parametrize(
    ("chosen", "module", "needed", "installed_by"),
    [
        (["logger=wandb"], "wandb", "logger=wandb needs wandb,", "uv sync --extra wandb, or pip install wandb"),
        (
            ["logger=[csv,mlflow]"],
            "mlflow",
            "logger=mlflow needs mlflow-skinny,",
            "uv sync --extra mlflow, or pip install mlflow-skinny",
        ),
        (
            ["logger=mlflow", "logger.mlflow.tracking_uri=sqlite:///runs.db"],
            "sqlalchemy",
            "logger.mlflow.tracking_uri=sqlite:///runs.db needs mlflow,",
            "pip install mlflow",
        ),
    ],
)
def test_a_missing_package_gets_one_line_before_anything_is_begun(
    chosen: list[str], module: str, needed: str, installed_by: str,
    command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setitem(sys.modules, module, None)
    said = command(*SMALL, *text_data, *chosen)
    assert said.exit_code == 2
    assert said.err == f"error: {needed} which is not installed. Type {installed_by}.\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["logger=[csv,wandbb]"], "logger must be one of: csv, mlflow, none, tensorboard, wandb; got 'wandbb'."),
        (["logger=wandb", "+logger.wandb.mod=online"], "There is no key 'logger.wandb.mod'"),
        (["logger=wandb", "logger.wandb.mode=onlin"], "logger.wandb.mode must be one of online, offline; got 'onlin'."),
        (["logger=mlflow", "logger.mlflow.tracking_uri=5"], "logger.mlflow.tracking_uri must be text; got 5."),
        (["logger=mlflow", "logger.mlflow=5"], "There is no key 'logger.mlflow'"),
        (["logger.csv.path=here"], "There is no key 'logger.csv' here. It belongs to logger=csv."),
        (["+logger.mine=5"], "There is no key 'logger.mine'"),
        (["logger=null"], "Type logger=none."),
        (["+logger=csv"], "Type "),
    ],
)
def test_wrong_input_gets_one_line(wrong: list[str], told: str, command, text_data, tmp_path: Path) -> None:
    said = command(*SMALL, *text_data, *wrong)
    assert said.exit_code == 2 and said.err.count("\n") == 1
    assert told in said.err
    assert not (tmp_path / "run").exists()


def test_a_run_that_recorded_a_logger_without_a_name_goes_on(
    command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(3, command, monkeypatch, *SMALL, *text_data)
    run = RunFolder(tmp_path / "run")
    config = OmegaConf.load(run.config)
    config.logger = OLD
    OmegaConf.save(config, run.config)
    said = command("resume=run")
    assert said.exit_code == 0 and "off from now on" not in said.err
    assert [record["step"] for record in run.read_metrics()] == [1, 2, 3, 4]


def test_loggers_of_recorded_configurations_are_opened(tmp_path: Path) -> None:
    nothing = {"_target_": "normlab.telemetry.sinks.NullSink", "_partial_": True}
    for recorded in (OLD, nothing):
        ((name, make_sink),) = sink_makers(OmegaConf.create({"logger": recorded})).items()
        assert name == "logger"
        make_sink(tmp_path, 1).close()
    assert sink_makers(OmegaConf.create({})) == {}
