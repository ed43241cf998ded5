"""What TensorBoard's HParams page is told of a run, read back from its events by the plugin's own parser."""

import math
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from normlab.core.run_folder import RunFolder
from normlab.telemetry.hyper_parameters import METRICS, Ending, HyperParameters, ending_of
from normlab.telemetry.tensorboard import TensorBoardSink

CHOSEN = HyperParameters(
    arm="abc",
    options={"model/norm": "none"},
    numbers={"optimizer.lr": 0.01, "model.width": 32.0},
    legal_options={"model/norm": ["none", "rmsnorm"]},
    number_keys=["optimizer.lr", "model.width"],
    varied=["optimizer.lr"],
)


def told(folder: Path, ending: Ending) -> tuple[dict[str, Any], EventAccumulator]:
    """The plugin's content by tag, and the events."""
    sink = TensorBoardSink(folder, 1)
    sink.begin(CHOSEN)
    sink.end(ending)
    sink.close()
    events = EventAccumulator(str(RunFolder(folder).tensorboard), size_guidance={"scalars": 0})
    events.Reload()
    return events.PluginTagToContent(metadata.PLUGIN_NAME), events


def test_the_choices_and_their_domains_are_in_the_runs_own_folder(tmp_path: Path) -> None:
    content, _ = told(tmp_path, Ending(True, 10, 2.0))
    start = metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG])
    assert start.group_name == "abc"
    assert start.hparams["model/norm"].string_value == "none"
    assert start.hparams["optimizer.lr"].number_value == 0.01
    assert start.hparams["model.width"].number_value == 32.0
    experiment = metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG])
    infos = {info.name: info for info in experiment.hparam_infos}
    assert list(infos) == ["model/norm", "optimizer.lr", "model.width"]
    assert [name for name, info in infos.items() if info.differs] == ["optimizer.lr"]
    assert [value.string_value for value in infos["model/norm"].domain_discrete.values] == ["none", "rmsnorm"]
    assert [metric.name.tag for metric in experiment.metric_infos] == list(METRICS)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(("is_completed", "status"), [(True, 1), (False, 2)])
def test_the_ending_is_told_in_finite_numbers(tmp_path: Path, is_completed: bool, status: int) -> None:
    content, events = told(tmp_path, ending_of(is_completed, 34, [None, math.nan], initial_loss=6.5))
    end = metadata.parse_session_end_info_plugin_data(content[metadata.SESSION_END_INFO_TAG])
    assert end.status == status
    scalars = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert scalars == {
        "outcome/diverged": [float(not is_completed)],
        "outcome/steps_survived": [34.0],
        "outcome/capped_loss": [6.5],
    }


@pytest.mark.parametrize(
    ("losses", "initial", "expected"),
    [
        ([2.0, 3.0], 6.0, 2.0),
        ([None, 3.0], 6.0, 3.0),
        ([40.0, 3.0], 6.0, 6.0),
        ([math.inf, math.nan], 6.0, 6.0),
        ([math.nan, None], None, 0.0),
        ([math.nan, None], math.nan, 0.0),
        ([2.0, None], math.nan, 2.0),
    ],
)
def test_the_loss_is_capped_at_the_initial_one(losses: list, initial: float | None, expected: float) -> None:
    assert ending_of(False, 1, losses, initial).capped_loss == expected
