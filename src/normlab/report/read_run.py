"""One run folder read into a result, whatever state the run was left in."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from normlab.core.errors import CheckpointError
from normlab.core.records import Outcome, decode_number
from normlab.core.run_folder import RESULTS, RunFolder
from normlab.core.strict_json import read_strict_json
from normlab.report.records import read_records
from normlab.report.results import Cause, RunResult

Remark = Callable[[str], None]
LOSSES = ("initial_loss", "final_train_loss", "final_val_loss", "best_val_loss", "bytes_per_token")
COUNTS = ("steps", "tokens")
OWN_FIELDS = {*LOSSES, *COUNTS, "seconds", "outcome", "outcome_step", "fingerprint"}


def read_run(planned: RunResult, remark: Remark) -> RunResult | None:
    """The planned run with what its folder tells, None where it has not begun. Never raises for what a file holds.

    A summary that is damaged counts as none. A run that went on after it was interrupted or had crashed, and has not
    ended since, has no outcome. Without a summary the steps themselves are read; final losses are then None.
    """
    folder = RunFolder(planned.folder)
    if not folder.metrics.is_file() and not folder.summary.is_file():
        return None

    def about_this(text: str) -> None:
        remark(f"{planned.name}: {text}")

    summary = _readable_summary(folder, about_this)
    run = _from_summary(planned, summary, about_this)
    if run.outcome not in RESULTS:
        run = _brought_up_to_date(run, folder, about_this)
    if not run.is_dead:
        return run
    autopsy = _readable_autopsy(folder, about_this)
    return replace(run, cause=_cause(autopsy), facts={**run.facts, **_autopsy_facts(autopsy)})


def _readable_summary(folder: RunFolder, remark: Remark) -> dict[str, Any]:
    try:
        return folder.read_summary()
    except CheckpointError as error:
        remark(f"{error} Until then its steps are used.")
        return {}


def _from_summary(planned: RunResult, summary: Mapping[str, Any], remark: Remark) -> RunResult:
    def number(key: str) -> float | None:
        value = summary.get(key)
        try:
            return None if value is None or isinstance(value, bool) else decode_number(value)
        except (TypeError, ValueError):
            remark(f"{key} in summary.json is no number.")
            return None

    def count(key: str) -> int:
        value = number(key)
        return int(value) if value is not None and math.isfinite(value) else 0

    outcome = summary.get("outcome")
    if outcome is not None and outcome not in list(Outcome):
        remark(f"the outcome in summary.json is none of {', '.join(Outcome)}.")
        outcome = None
    fingerprint = summary.get("fingerprint")
    if planned.fingerprint is not None and fingerprint not in (None, planned.fingerprint):
        remark("its folder holds another experiment than the one planned: the fingerprints differ.")
    return replace(
        planned,
        outcome=None if outcome is None else str(outcome),
        fingerprint=fingerprint if isinstance(fingerprint, str) else planned.fingerprint,
        seconds=number("seconds") or 0.0,
        facts={**planned.facts, **{key: value for key, value in summary.items() if key not in OWN_FIELDS}},
        **{key: count(key) for key in COUNTS},
        **{key: number(key) for key in LOSSES},
    )


def _brought_up_to_date(run: RunResult, folder: RunFolder, remark: Remark) -> RunResult:
    """A run without a result, by its steps where they go further than its summary."""
    records = read_records(folder, remark)
    if not records or (run.outcome is not None and records[-1]["step"] <= run.steps):
        return run
    last = records[-1]
    measured = [record["val_loss"] for record in records if _is_finite(record.get("val_loss"))]
    first_loss = records[0].get("train_loss")
    return replace(
        run,
        outcome=None,
        steps=last["step"],
        tokens=int(last.get("tokens", 0)),
        seconds=float(last.get("seconds", 0.0)),
        initial_loss=first_loss if records[0]["step"] == 1 and _is_finite(first_loss) else run.initial_loss,
        final_train_loss=None,
        final_val_loss=None,
        best_val_loss=min(measured, default=None),
    )


def _readable_autopsy(folder: RunFolder, remark: Remark) -> Mapping[str, Any]:
    """Empty where there is none, or a damaged one."""
    try:
        autopsy = read_strict_json(folder.autopsy_json)
    except (OSError, ValueError):
        autopsy = None
    if isinstance(autopsy, Mapping):
        return autopsy
    remark("it has died and has no autopsy.json that can be read, so its cause of death is unknown.")
    return {}


def _cause(autopsy: Mapping[str, Any]) -> Cause:
    """Unknown in all its parts where no value was found to be the first, as of a loss that left while finite."""
    finding = autopsy.get("finding")
    if not isinstance(finding, Mapping):
        return Cause(None, None, None)
    kind, layer, site = finding.get("kind"), finding.get("layer"), finding.get("site")
    return Cause(
        kind=kind if isinstance(kind, str) else None,
        layer=layer if isinstance(layer, int) else None,
        site=site if isinstance(site, str) else None,
    )


def _autopsy_facts(autopsy: Mapping[str, Any]) -> dict[str, Any]:
    """What the run saw of its end, and the tag and step of the statistic that grew first."""
    facts = {"what": autopsy["what"]} if isinstance(autopsy.get("what"), str) else {}
    story = autopsy.get("story")
    growths = story.get("growths") if isinstance(story, Mapping) else None
    if isinstance(growths, list) and growths and isinstance(growths[0], Mapping):
        facts |= {"first_growth": growths[0].get("tag"), "first_growth_step": growths[0].get("began_at")}
    return facts


def _is_finite(value: object) -> bool:
    return isinstance(value, float | int) and math.isfinite(value)


def planned_run(
    *, name: str, folder: Path, choices: Mapping[str, str], lr: float | None, seed: int, fingerprint: str | None,
    planned_steps: int, facts: Mapping[str, Any],
) -> RunResult:  # fmt: skip
    """A run that has not taken a step yet."""
    return RunResult(
        name=name, folder=folder, choices=choices, lr=lr, seed=seed, fingerprint=fingerprint, outcome=None, steps=0,
        planned_steps=planned_steps, tokens=0, seconds=0.0, initial_loss=None, final_train_loss=None,
        final_val_loss=None, best_val_loss=None, bytes_per_token=None, cause=None, facts=facts,
    )  # fmt: skip
