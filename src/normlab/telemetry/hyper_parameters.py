"""TensorBoard's HParams, in the run's own folder: what a run chose, and how it ended.

``SummaryWriter.add_hparams`` would make a run of its own, and TensorBoard's helper needs TensorFlow: hence the plugin's
own messages. All runs name the same parameters and metrics, so that those of a sweep share their columns.
"""

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]  (made when imported)
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

api: Any = api_pb2
plugin_data: Any = plugin_data_pb2
"""Made when they are imported, and so without types."""


@dataclass(frozen=True)
class HyperParameters:
    """Options by group, numbers by key, what the options could be; ``arm`` is the same for runs that differ by seed.

    ``varied`` are the keys under study, which TensorBoard puts first; it shows the others when asked to.
    """

    arm: str
    options: Mapping[str, str]
    numbers: Mapping[str, float]
    legal_options: Mapping[str, Sequence[str]]
    number_keys: Sequence[str]
    varied: Collection[str]


@dataclass(frozen=True)
class Ending:
    """How a run ended, in finite numbers: TensorBoard drops what is not from its parallel view."""

    is_completed: bool
    steps_survived: int
    capped_loss: float

    def scalars(self) -> dict[str, float]:
        """By TensorBoard tag."""
        return {
            "outcome/diverged": float(not self.is_completed),
            "outcome/steps_survived": float(self.steps_survived),
            "outcome/capped_loss": self.capped_loss,
        }


METRICS = {
    "outcome/diverged": "share that died",
    "outcome/steps_survived": "steps survived",
    "outcome/capped_loss": "loss, at most the initial one",
}
"""Those that every run has, a dead one too: the parallel view leaves out a run that lacks one."""


def ending_of(is_completed: bool, step: int, losses: Sequence[float | None], initial_loss: float | None) -> Ending:
    """The first of the losses that is finite, at most the initial one; 0 where there is none at all."""
    finite = [loss for loss in (*losses, initial_loss) if loss is not None and math.isfinite(loss)]
    ceiling = initial_loss if initial_loss is not None and math.isfinite(initial_loss) else math.inf
    return Ending(is_completed, step, min(finite[0], ceiling) if finite else 0.0)


def beginning_summaries(chosen: HyperParameters) -> list[Summary]:
    """What all runs have in common, and the choices of this one."""
    start = plugin_data.SessionStartInfo(group_name=chosen.arm, start_time_secs=time.time())
    for name, option in chosen.options.items():
        start.hparams[name].string_value = option
    for name, number in chosen.numbers.items():
        start.hparams[name].number_value = number
    infos = [_string_info(name, options) for name, options in chosen.legal_options.items()]
    infos += [api.HParamInfo(name=name, type=api.DATA_TYPE_FLOAT64) for name in chosen.number_keys]
    for info in infos:
        info.differs = info.name in chosen.varied
    metrics = [api.MetricInfo(name=api.MetricName(tag=tag), display_name=name) for tag, name in METRICS.items()]
    experiment = api.Experiment(hparam_infos=infos, metric_infos=metrics)
    return [
        _summary(metadata.EXPERIMENT_TAG, plugin_data.HParamsPluginData(experiment=experiment)),
        _summary(metadata.SESSION_START_INFO_TAG, plugin_data.HParamsPluginData(session_start_info=start)),
    ]


def ending_summary(ending: Ending) -> Summary:
    """That the run is over; a run that diverged is a failure in TensorBoard's words."""
    status = api.STATUS_SUCCESS if ending.is_completed else api.STATUS_FAILURE
    end = plugin_data.SessionEndInfo(status=status, end_time_secs=time.time())
    return _summary(metadata.SESSION_END_INFO_TAG, plugin_data.HParamsPluginData(session_end_info=end))


def _string_info(name: str, options: Sequence[str]) -> Any:
    """With its legal values, without which TensorBoard shows no boxes to filter by."""
    info = api.HParamInfo(name=name, type=api.DATA_TYPE_STRING)
    info.domain_discrete.extend(options)
    return info


def _summary(tag: str, content: Any) -> Summary:
    return Summary(value=[Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(content))])
