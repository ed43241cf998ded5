"""What the tests of sinks that hand on to a service have in common."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.image import imsave
from tests.telemetry.test_sinks import record_of

from normlab.core.run_folder import RunFolder
from normlab.telemetry.hyper_parameters import Ending, HyperParameters
from normlab.telemetry.sinks import JsonLinesSink, Sink
from normlab.telemetry.wandb_file import records_in

CHOSEN = HyperParameters(
    arm="baseline, lr=0.01 (abcd1234)",
    options={"init": "xavier", "init/scale": "unit", "model/norm@model.qk_norm": "none"},
    numbers={"optimizer.lr": 0.01},
    legal_options={},
    number_keys=["optimizer.lr"],
    varied=[],
)
PATIENCE_SECONDS = 60
COMPLETED, DIED = Ending(True, 7, 2.0), Ending(False, 7, 3.0)

OpenSink = Callable[[Path, int], Sink]


def loss_at(step: int) -> float:
    return math.nan if step == 3 else -math.inf if step == 4 else float(step)


def go_on(open_sink: OpenSink, folder: Path, first_step: int, last_step: int, ending: Ending | None) -> None:
    """A run's steps from one to another, as it takes them after it was stopped: metrics.jsonl is cut first."""
    RunFolder(folder).forget_metrics_after(first_step - 1)
    lines, sink = JsonLinesSink(RunFolder(folder).metrics), open_sink(folder, first_step)
    sink.begin(CHOSEN)
    for step in range(first_step, last_step + 1):
        at_interval = {"attention_logit_max/layer_0": 1.0, "attention_logit_max/layer_0/head_1": 2.0}
        record = record_of(step, train_loss=loss_at(step), telemetry=at_interval if step % 2 else {})
        lines.record(record)
        sink.record(record)
    lines.close()
    if ending is not None:
        sink.text("autopsy", "# died of é")
        sink.image("figures/autopsy", picture(folder), last_step)
        sink.end(ending)
    sink.close()


def picture(folder: Path) -> bytes:
    """A small PNG file."""
    path = folder.parent / "picture.png"
    imsave(path, np.zeros((4, 6, 4)))
    return path.read_bytes()


def file_of_wandb(run: Path) -> Path:
    """The newest that W&B has written for a run, when it is whole: that is after W&B has said that it is finished."""
    path = max(run.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(record.HasField("exit") for record in records_in(path)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path
