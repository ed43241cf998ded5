"""Sweeps of runs that are as small as they get, and what is read from their folders."""

import csv
from pathlib import Path
from typing import Any

from normlab.app.preflight import check_command_line
from normlab.app.resolvers import register_resolvers
from normlab.app.sweeps.plan import SweepPlan
from normlab.core.run_folder import RunFolder
from normlab.report.load import load_sweep
from normlab.report.results_csv import TIMES, results_csv

QUICK = (
    "model=micro", "tokenizer=bytes", "trainer.val_tokens=64", "schedule.warmup_steps=1", "trainer.batch_size=2",
    "logger=none", "telemetry=none",
)  # fmt: skip
LOGGED = tuple(text for text in QUICK if text != "logger=none")
"""To be compared byte for byte, with all that TensorBoard is told."""
SWEEP = "hydra.sweep.dir=sweep"
SMALL = (*QUICK, "trainer.steps=3", SWEEP)
FATAL = ("model/norm=none", "init.scale.roles=[ffn_down]", "init.scale.factor=1,1e30")
"""Two runs, the second of which dies."""


def planned(*arguments: str) -> SweepPlan:
    """The plan that the command line leaves in the folder ``sweep``."""
    register_resolvers()
    check_command_line(["--multirun", *arguments, *SMALL])
    return SweepPlan.read(Path("sweep"))


def runs(sweep: Path) -> list[RunFolder]:
    """The folders of a sweep's runs, in the order of its plan."""
    return [run.folder for run in SweepPlan.read(sweep).runs(sweep)]


def outcomes(sweep: Path) -> list[str | None]:
    """How the runs of a sweep have ended, in the order of its plan."""
    return [run.read_summary().get("outcome") for run in runs(sweep)]


def steps_taken(sweep: Path) -> dict[str, bytes]:
    """The metrics of every run by its folder: with their seconds, so that steps taken again are other bytes."""
    return {path.parent.name: path.read_bytes() for path in sorted(sweep.glob("*/metrics.jsonl"))}


def table(sweep: Path) -> list[dict[str, Any]]:
    """results.csv by rows, without what a clock or a commit to the checkout changes."""
    rows = csv.DictReader(results_csv(load_sweep(sweep)).splitlines())
    return [{key: text for key, text in row.items() if key not in (*TIMES, "git_commit")} for row in rows]
