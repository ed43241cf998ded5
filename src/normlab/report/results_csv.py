"""results.csv: one row a job that has begun, for other programs.

The same results give the same bytes: rows in the order of the sweep, numbers with nine significant digits (enough to
tell any two float32 apart), lines that end in a line feed. What is unknown is empty. Times come last.
"""

import csv
import io
import os
from collections.abc import Mapping
from typing import Any

from normlab.report.results import RunResult, SweepResult
from normlab.report.units import bits_per_byte

FACTS = ("num_parameters", "val_entropy", "git_commit", "error")
TIMES = ("seconds", "tokens_per_second")


def results_csv(sweep: SweepResult) -> str:
    """The table, with a header."""
    rows = [{key: _text(value) for key, value in fields_of(run, sweep).items()} for run in sweep.runs]
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["name"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def fields_of(run: RunResult, sweep: SweepResult) -> dict[str, Any]:
    """The columns of a run's row with their values; None is unknown."""
    cause = run.cause
    return {
        "name": run.name,
        "folder": os.path.relpath(run.folder, sweep.folder),
        **{key: run.choices.get(key) for key in sweep.varied},
        "lr": run.lr,
        "seed": run.seed,
        "fingerprint": run.fingerprint,
        "outcome": run.outcome,
        "steps": run.steps,
        "planned_steps": run.planned_steps,
        "tokens": run.tokens,
        "initial_loss": run.initial_loss,
        "final_train_loss": run.final_train_loss,
        "final_val_loss": run.final_val_loss,
        "best_val_loss": run.best_val_loss,
        "bytes_per_token": run.bytes_per_token,
        "final_bits_per_byte": bits_per_byte(run.final_val_loss, run.bytes_per_token),
        "best_bits_per_byte": bits_per_byte(run.best_val_loss, run.bytes_per_token),
        "cause_kind": None if cause is None else cause.kind,
        "cause_layer": None if cause is None else cause.layer,
        "cause_site": None if cause is None else cause.site,
        "first_growth": run.facts.get("first_growth"),
        **{key: run.facts.get(key) for key in FACTS},
        "versions": _versions(run),
        "seconds": run.seconds,
        "tokens_per_second": run.facts.get("tokens_per_second"),
    }


def _versions(run: RunResult) -> str | None:
    versions = run.facts.get("versions")
    return " ".join(f"{name}={versions[name]}" for name in sorted(versions)) if isinstance(versions, Mapping) else None


def _text(value: object) -> str:
    if value is None:
        return ""
    return format(value, ".9g") if isinstance(value, float) else str(value).replace("\r", " ").replace("\n", " ")
