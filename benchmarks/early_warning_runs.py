"""The runs that benchmarks/early_warning.py reads: 64, over norms, placements, softmaxes, learning rates and seeds."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from normlab.app.build import build_model
from normlab.autopsy.limits import Limits, limits_of
from normlab.core.records import Outcome, StepRecord, decode_number
from normlab.core.run_folder import RESULTS, RunFolder
from normlab.telemetry.instruments import is_due

SETTINGS = (
    *("model=tiny", "model.context_length=64", "data=stories", "trainer.batch_size=4", "trainer.steps=300"),
    *("schedule.warmup_steps=50", "trainer.val_every=300", "trainer.val_tokens=4096", "telemetry=basic"),
    *("telemetry.every=1", "logger=none", "autopsy.keep_bundle=false"),
)
ARMS = {
    "pre": ("model/norm=rmsnorm model/placement=pre init=xavier", "3e-3,1e-2,3e-2,1e-1,3e-1"),
    "post": ("model/norm=rmsnorm model/placement=post init=xavier", "3e-3,1e-2,3e-2,1e-1,3e-1"),
    "none": ("model/norm=none init=gpt2", "3e-3,1e-2,3e-2"),
    "none-small": ("model/norm=none init=xavier init/scale=small_out", "3e-3,1e-2,3e-2"),
}
SOFTMAXES = ("naive", "stable")
SEEDS = (1, 2)
NUM_PROCESSES = 2

VOCAB_SIZE = 1024
LOGIT = "attention_logit_max/"
ALWAYS_THERE = ("step", "tokens", "seconds", "lr", "train_loss", "grad_norm", "val_loss")


def trained(root: Path) -> "list[Run]":
    """All runs, those trained first that have no result in the folder yet."""
    sweeps = [(arm, softmax, seed) for arm in ARMS for softmax in SOFTMAXES for seed in SEEDS]
    with ThreadPoolExecutor(NUM_PROCESSES) as pool:
        list(pool.map(lambda sweep: train(root, *sweep), sweeps))
    return [read_run(folder) for folder in finished(root)]


def train(root: Path, arm: str, softmax: str, seed: int) -> None:
    """The runs of a sweep that have no result yet, in a sweep folder of their own."""
    overrides, rates = ARMS[arm]
    sweep = root / f"{arm}-{softmax}-{seed}"
    own = [folder for folder in finished(root) if sweep in folder.path.parents]
    done = {float(OmegaConf.load(folder.config).optimizer.lr) for folder in own}
    missing = [rate for rate in rates.split(",") if float(rate) not in done]
    if not missing:
        return
    attempt = sweep / f"attempt_{len(list(sweep.glob('attempt_*'))) + 1}"
    attempt.mkdir(parents=True)
    command = [sys.executable, "src/run.py", "--multirun", *SETTINGS, *overrides.split(), f"seed={seed}"]
    command += [f"attention/softmax={softmax}", f"optimizer.lr={','.join(missing)}"]
    command += [f"hydra.sweep.dir={attempt.resolve()}"]
    with open(attempt / "log.txt", "w", encoding="utf-8") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, env=environment, check=True)


def finished(root: Path) -> Iterator[RunFolder]:
    """The folders of runs with a result."""
    for summary in sorted(root.glob("*/attempt_*/*/summary.json")):
        folder = RunFolder(summary.parent)
        if folder.result() in RESULTS:
            yield folder


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run as its folder has it. ``death`` is its step; ``cause`` the kind that the autopsy found, or the outcome."""

    name: str
    arm: str
    softmax: str
    death: int | None
    cause: str
    ends_in_nan: bool
    records: Sequence[dict[str, Any]]
    limits: Limits

    def records_at(self, every: int) -> Iterator[StepRecord]:
        """The records as the lab would have taken them with ``telemetry.every``."""
        for record in self.records:
            step, telemetry = record["step"], {}
            values = {tag: decode_number(value) for tag, value in record.items() if tag != "notes"}
            if is_due(step, every) or not (math.isfinite(values["train_loss"]) and math.isfinite(values["grad_norm"])):
                telemetry = {tag: value for tag, value in values.items() if tag not in ALWAYS_THERE}
            yield StepRecord(
                step=step,
                tokens=record["tokens"],
                seconds=0.0,
                lr=0.0,
                train_loss=values["train_loss"],
                grad_norm=values["grad_norm"],
                telemetry=telemetry,
            )

    def largest_logits(self) -> dict[int, float]:
        """The largest attention logit of all layers, by step."""
        return {
            record["step"]: max(decode_number(value) for tag, value in record.items() if tag.startswith(LOGIT))
            for record in self.records
        }


def read_run(folder: RunFolder) -> Run:
    """A run from its folder."""
    config, summary = OmegaConf.load(folder.config), folder.read_summary()
    has_died, cause = summary["outcome"] != Outcome.COMPLETED, ""
    if has_died:
        found = json.loads(folder.autopsy_json.read_text(encoding="utf-8"))["finding"]
        cause = summary["outcome"] if found is None else found["kind"]
    sweep = folder.path.parent.parent.name
    arm, softmax, _ = sweep.rsplit("-", 2)
    return Run(
        name=f"{sweep} lr={config.optimizer.lr:g}",
        arm=arm,
        softmax=softmax,
        death=summary["outcome_step"] if has_died else None,
        cause=cause,
        ends_in_nan=not math.isfinite(decode_number(summary["final_val_loss"] or 0.0)),
        records=list(folder.read_metrics()),
        limits=limits_of(build_model(config, VOCAB_SIZE, torch.device("cpu"))),  # type: ignore[arg-type]
    )
