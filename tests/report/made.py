"""Sweeps made up for tests: as results in memory, and as folders like those that real runs leave.

Nothing here is trained. Losses follow from the choices, the rate and the seed by a formula, so that a test can say
what a statistic of them must be.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from normlab.core.records import encode_json
from normlab.report.results import Cause, RunResult, SweepResult

VARIED = {"model/norm": ["rmsnorm", "none"], "model/placement": ["pre", "post"], "attention/clamp": ["none", "hard"]}
RATES = (0.001, 0.01, 0.1)
SEEDS = (0, 1, 2)
PLANNED_STEPS = 60
INITIAL_LOSS = 6.9
NUM_LAYERS = 2
BYTES_PER_TOKEN = 3.0
TELEMETRY_EVERY = 10
VAL_EVERY = 20
EXP_OVERFLOW = {
    "phase": "forward", "layer": 1, "site": "attention.attend.softmax", "operation": "aten.exp",
    "kind": "exp_overflow", "limit_dtype": "float32",
}  # fmt: skip


def made_run(**fields: Any) -> RunResult:
    """A completed run, but for what is given; a dead one has no losses unless they are given."""
    choices, lr, seed = fields.get("choices", {"model/norm": "rmsnorm"}), fields.get("lr", 0.01), fields.get("seed", 0)
    has_losses = fields.get("outcome", "completed") == "completed"
    name = run_name(choices, lr, seed)
    loss = 2.0 if has_losses else None
    known = {
        "name": name, "folder": Path("/nowhere") / name, "choices": choices, "lr": lr, "seed": seed,
        "fingerprint": fingerprint_of(choices, lr, seed), "outcome": "completed", "steps": 100, "planned_steps": 100,
        "tokens": 25600, "seconds": 1.5, "initial_loss": INITIAL_LOSS, "final_train_loss": loss, "final_val_loss": loss,
        "best_val_loss": loss, "bytes_per_token": BYTES_PER_TOKEN, "cause": None, "facts": {},
    }  # fmt: skip
    return RunResult(**{**known, **fields})


def dead_run(steps: int, **fields: Any) -> RunResult:
    """A run that ended nonfinite at a step."""
    cause = Cause(kind="exp_overflow", layer=1, site="attention.attend.softmax")
    return made_run(**{"outcome": "nonfinite", "steps": steps, "cause": cause, **fields})


def made_sweep(runs: Sequence[RunResult], **fields: Any) -> SweepResult:
    """A sweep of these runs, whose varied keys are those of their choices in order of appearance."""
    varied: dict[str, list[str]] = {}
    for run in runs:
        for key, value in run.choices.items():
            if value not in varied.setdefault(key, []):
                varied[key].append(value)
    known = {
        "folder": Path("/nowhere"), "command": "python src/run.py --multirun", "experiment": None, "question": None,
        "baseline": None, "claims": [], "varied": varied, "runs": list(runs), "num_planned": len(runs),
    }  # fmt: skip
    return SweepResult(**{**known, **fields})


def write_sweep(folder: Path) -> Path:
    """Write a sweep of 8 variants at 3 rates with 3 seeds, and return its folder.

    72 jobs share 54 folders, as placements build the same model where there is no norm. Without a norm and a
    clamp all runs at the two larger rates die of exp_overflow; without a norm but with a clamp those at the largest
    rate diverge. Of the rest one is interrupted, one crashed, one still runs (its last line is torn), one has not
    begun.
    """
    jobs = []
    for values in product(*VARIED.values()):
        choices = dict(zip(VARIED, values, strict=True))
        for lr, seed in product(RATES, SEEDS):
            name = run_name(choices, lr, seed)
            built = {**choices, "model/placement": "pre"} if choices["model/norm"] == "none" else choices
            target = run_name(built, lr, seed)
            fate = _fate(built, lr, seed)
            if target == name and fate != "waiting":
                write_run(folder / name, choices, lr, seed, fate)
            jobs.append(
                {
                    "name": name,
                    "folder": target,
                    "choices": choices,
                    "lr": lr,
                    "seed": seed,
                    "fingerprint": fingerprint_of(built, lr, seed),
                    "planned_steps": PLANNED_STEPS,
                }
            )
    sweep = {
        "format": 1,
        "command": "python src/run.py --multirun experiment=made_up",
        "experiment": "made_up",
        "question": "Which of two fixes keeps a model without norms alive?",
        "baseline": {"model/norm": "rmsnorm", "model/placement": "pre", "attention/clamp": "none"},
        "claims": [
            {
                "id": "dies",
                "text": "Without norms and clamp a run dies within sixty steps.",
                "criterion": {
                    "kind": "runs",
                    "where": {"model/norm": "none", "attention/clamp": "none", "lr": {"above": 0.005}},
                    "that": {"outcome": "dead", "within_steps": 60},
                    "at_least": 1.0,
                    "min_seeds": 3,
                },
            }
        ],
        "varied": VARIED,
        "jobs": jobs,
    }
    (folder / "sweep.json").write_text(encode_json(sweep, indent=2) + "\n")
    return folder


def write_run(folder: Path, choices: Mapping[str, str], lr: float, seed: int, fate: str) -> None:
    """Write a run folder; the fate is an outcome, or "running"."""
    (folder / ".hydra").mkdir(parents=True)
    overrides = [*(f"{key}={value}" for key, value in choices.items()), f"optimizer.lr={lr}", f"seed={seed}"]
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {override}\n" for override in overrides))
    config = {"seed": seed, "optimizer": {"lr": lr}, "trainer": {"steps": PLANNED_STEPS}}
    (folder / "config.yaml").write_text(json.dumps(config) + "\n")
    records = _records(choices, lr, seed, fate)
    lines = "".join(encode_json(record) + "\n" for record in records)
    (folder / "metrics.jsonl").write_text(lines + ('{"step": 3' if fate == "running" else ""))
    if fate == "running":
        return
    (folder / "summary.json").write_text(encode_json(_summary(choices, lr, seed, fate, records), indent=2) + "\n")
    if fate in ("nonfinite", "diverged"):
        (folder / "autopsy.json").write_text(encode_json(_autopsy(fate, records[-1]["step"]), indent=2) + "\n")


def run_name(choices: Mapping[str, str], lr: float | None, seed: int) -> str:
    """The name of a run's folder."""
    parts = [f"{key.rpartition('/')[2]}={value}" for key, value in choices.items()]
    return ",".join([*parts, f"lr={lr}", f"seed={seed}"]) + "-" + fingerprint_of(choices, lr, seed)[:8]


def fingerprint_of(choices: Mapping[str, str], lr: float | None, seed: int) -> str:
    """64 hexadecimal digits that differ wherever the run does."""
    return hashlib.sha256(json.dumps([choices, lr, seed], sort_keys=True).encode()).hexdigest()


def val_loss_at(choices: Mapping[str, str], lr: float, seed: int, step: int) -> float:
    """Falls with the steps; lowest at the rate 0.01; 0.2 worse without a norm, 0.05 worse with placement post."""
    worse = 0.2 * (choices.get("model/norm") == "none") + 0.05 * (choices.get("model/placement") == "post")
    phase = 2 * (choices.get("attention/clamp") == "hard") + 3 * (choices.get("model/placement") == "post")
    noise = 0.01 * math.sin(17 * seed + 1000 * lr + phase)
    return 2 + worse + 0.3 * math.log10(lr / 0.01) ** 2 + noise + 4.9 * math.exp(-step / 15)


def _fate(choices: Mapping[str, str], lr: float, seed: int) -> str:
    if choices["model/norm"] == "none":
        if choices["attention/clamp"] == "none":
            return "nonfinite" if lr > 0.005 else "completed"
        return "diverged" if lr > 0.05 else "completed"
    if choices["model/placement"] == "post" and choices["attention/clamp"] == "hard" and lr == RATES[0]:
        return ("interrupted", "crashed", "waiting")[seed]
    is_running = choices["model/placement"] == "post" and choices["attention/clamp"] == "none"
    return "running" if is_running and lr == RATES[-1] and seed == SEEDS[-1] else "completed"


def _records(choices: Mapping[str, str], lr: float, seed: int, fate: str) -> list[dict[str, Any]]:
    last = {"nonfinite": 12 + 4 * seed, "diverged": 50, "interrupted": 25, "crashed": 15, "running": 35}
    num_steps = last.get(fate, PLANNED_STEPS)
    records = []
    for step in range(1, num_steps + 1):
        is_fatal = fate == "nonfinite" and step == num_steps
        left_by = max(0, step - 20) * 0.3 if fate == "diverged" else 0
        loss = math.nan if is_fatal else INITIAL_LOSS if step == 1 else val_loss_at(choices, lr, seed, step) + left_by
        record = {
            "step": step, "tokens": 256 * step, "seconds": 0.02 * step, "lr": lr * min(1, step / 10),
            "train_loss": loss, "grad_norm": math.nan if is_fatal else 0.5 + lr * step,
        }  # fmt: skip
        if step % VAL_EVERY == 0 or (step == num_steps and fate == "completed"):
            record["val_loss"] = loss
        if step == 1 or step % TELEMETRY_EVERY == 0 or is_fatal:
            record |= _telemetry(choices, lr, step, is_fatal)
        records.append(record)
    return records


def _telemetry(choices: Mapping[str, str], lr: float, step: int, is_fatal: bool) -> dict[str, float]:
    grows = choices.get("model/norm") == "none"
    tags = {}
    for layer in range(NUM_LAYERS):
        growth = math.exp((4 * lr * step if grows else 0.01 * step) * (layer + 1) / NUM_LAYERS)
        lost = math.nan if is_fatal and layer > 0 else 1.0
        for site, size in (("residual", 1.0), ("attention", 0.5), ("ffn_hidden", 0.3), ("ffn", 2.0)):
            tags[f"activation_rms/{site}/layer_{layer}"] = size * growth * lost
            tags[f"activation_absmax/{site}/layer_{layer}"] = 5 * size * growth * lost
        tags[f"attention_logit_max/layer_{layer}"] = 89.0 if is_fatal else min(88.0, 2 * growth)
        tags[f"attention_entropy/layer_{layer}"] = 2.5 / growth**0.1
        if choices.get("attention/clamp") == "hard":
            tags[f"clamp_hit_rate/layer_{layer}"] = 0.0 if growth < 15 else 0.1
    return tags


def _summary(
    choices: Mapping[str, str], lr: float, seed: int, fate: str, records: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    last = records[-1]
    measured = [record["val_loss"] for record in records if "val_loss" in record]
    return {
        "outcome": fate,
        "outcome_step": last["step"],
        "initial_loss": INITIAL_LOSS,
        "final_train_loss": last["train_loss"],
        "final_val_loss": last.get("val_loss"),
        "best_val_loss": min(measured, default=None),
        "val_entropy": 0.33,
        "bytes_per_token": BYTES_PER_TOKEN,
        "steps": last["step"],
        "tokens": last["tokens"],
        "seconds": last["seconds"],
        "tokens_per_second": 12800.0,
        "loss_spikes": [],
        "instabilities": [],
        "num_parameters": 86016,
        "fingerprint": fingerprint_of(choices, lr, seed),
        "versions": {"python": "3.11.7", "normlab": "0.1.0", "torch": "2.13.0"},
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "hardware": {"device": "cpu", "name": "cpu", "cpu_threads": 2},
        "error": "RuntimeError: made up" if fate == "crashed" else None,
    }


def _autopsy(fate: str, step: int) -> dict[str, Any]:
    growth = {"tag": "activation_rms/ffn/layer_1", "began_at": 10, "baseline": 2.0, "last": 40.0, "last_step": step - 1}
    return {
        "outcome": fate,
        "step": step,
        "what": "the training loss is nan" if fate == "nonfinite" else "the training loss left for good",
        "overrides": [],
        "finding": EXP_OVERFLOW if fate == "nonfinite" else None,
        "story": {"end_step": step, "loss_shows_at": None, "growths": [growth], "crossings": []},
        "advice": {"suggestions": [], "remarks": []},
        "replayed": None,
        "statistics": "as the run read them",
    }
