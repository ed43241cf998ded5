"""MLflow: the steps of a run as metrics, what it chose as parameters, texts and pictures as artifacts."""

import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

from normlab.core.files import write_whole
from normlab.core.records import StepRecord
from normlab.telemetry.hyper_parameters import Ending, HyperParameters
from normlab.telemetry.lasting_sink import LastingSink
from normlab.telemetry.scalars import Scalars

AUTOPSY = "autopsy"
LAST_OF_STEP = "loss/train"
"""Sent after all others of a step, so that it tells of a step that has arrived whole."""
METRICS_AT_ONCE, PARAMETERS_AT_ONCE = 1000, 100
"""As many as a server takes."""
SECONDS_BETWEEN = 1.0


class MlflowSink(LastingSink):
    """An MLflow run named after the run folder, which keeps its id.

    ``tracking_uri`` is a folder or a server. Metrics are sent at most once a second; those that a killed process did
    not send are sent when the run goes on.
    """

    def __init__(self, folder: Path, first_step: int, *, tracking_uri: str, experiment: str):
        super().__init__(folder, first_step)
        self._tracking_uri, self._experiment = tracking_uri, experiment
        self._scalars = Scalars()
        self._client: Any = None
        self._run_id = ""
        self._pending: list[Any] = []
        self._sent_at = time.monotonic()
        self._status = "KILLED"

    def text(self, tag: str, markdown: str) -> None:
        """Add a text as an artifact; the autopsy is the description of the run as well."""
        self._open_once(None)
        self._client.log_text(self._run_id, markdown, f"{tag}.md")
        if tag == AUTOPSY:
            self._client.set_tag(self._run_id, "mlflow.note.content", markdown)

    def image(self, tag: str, png: bytes, step: int) -> None:
        """Add a picture as an artifact, in a folder of those of other steps."""
        self._open_once(None)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"step_{step:06d}.png"
            path.write_bytes(png)
            self._client.log_artifact(self._run_id, str(path), tag)

    def end(self, ending: Ending) -> None:
        """Add how the run ended; one that died has failed, in MLflow's words."""
        self._add(ending.scalars(), ending.steps_survived)
        self._status = "FINISHED" if ending.is_completed else "FAILED"

    def close(self) -> None:
        """Send what is pending, and the status of a run that began; without an ending it was stopped."""
        if not self._is_open:
            return
        self._flush()
        if self._has_begun:
            self._client.set_terminated(self._run_id, self._status)

    def _send(self, record: StepRecord) -> None:
        self._add(self._scalars.of(record), record.step)
        if record.notes:
            self._client.set_tag(self._run_id, f"notes.step_{record.step}", " ".join(record.notes))
        if time.monotonic() - self._sent_at >= SECONDS_BETWEEN:
            self._flush()

    def _add(self, scalars: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for name in sorted(scalars, key=lambda name: name == LAST_OF_STEP):
            self._pending.append(Metric(metric_name(name), scalars[name], now, step))

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        for part in _parts(pending, METRICS_AT_ONCE):
            self._client.log_batch(self._run_id, metrics=part)
        self._sent_at = time.monotonic()

    def _open(self, chosen: HyperParameters | None) -> int:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read as it is imported
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # the only store that needs no database
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which is for results alone
        from mlflow import MlflowClient

        self._client = MlflowClient(tracking_uri=self._tracking_uri)
        kept = self._folder / "mlflow_run_id"
        if kept.is_file() and self._is_known(kept.read_text()):
            self._run_id = kept.read_text()
            if self._has_begun:
                self._client.update_run(self._run_id, status="RUNNING")
            return max((m.step for m in self._client.get_metric_history(self._run_id, LAST_OF_STEP)), default=-1)
        tags = {} if chosen is None else {"arm": chosen.arm}
        run = self._client.create_run(self._experiment_id(), run_name=self._folder.resolve().name, tags=tags)
        self._run_id = run.info.run_id
        write_whole(kept, self._run_id)
        if chosen is not None:
            self._add_parameters({**chosen.options, **chosen.numbers})
        return -1

    def _is_known(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _experiment_id(self) -> str:
        """Of the experiment with the name; the runs of a sweep that start together make one."""
        is_folder = "://" not in self._tracking_uri or self._tracking_uri.startswith("file:")
        lock = FileLock(Path(tempfile.gettempdir()) / f"normlab-mlflow-{os.getuid()}.lock")
        with lock if is_folder else nullcontext():  # a folder takes the same name twice, a server does not
            return self._found_experiment() or self._made_experiment()

    def _found_experiment(self) -> str | None:
        found = self._client.get_experiment_by_name(self._experiment)
        return None if found is None else found.experiment_id

    def _made_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        try:
            return self._client.create_experiment(self._experiment)
        except MlflowException:
            if made_meanwhile := self._found_experiment():
                return made_meanwhile
            raise

    def _add_parameters(self, chosen: Mapping[str, object]) -> None:
        from mlflow.entities import Param

        parameters = [Param(parameter_name(name), str(value)) for name, value in chosen.items()]
        for part in _parts(parameters, PARAMETERS_AT_ONCE):
            self._client.log_batch(self._run_id, params=part)


def metric_name(tag: str) -> str:
    """The tag with its first slash, which makes a group; MLflow's folders allow no name that begins with another."""
    group, slash, rest = tag.partition("/")
    return _legal(group + slash + rest.replace("/", "."))


def parameter_name(key: str) -> str:
    """The key with dots for slashes."""
    return _legal(key.replace("/", "."))


def _legal(name: str) -> str:
    return re.sub(r"[^/\w.\- :]", ":", name)


def _parts(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
