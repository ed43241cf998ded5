"""What a run chose, for TensorBoard's HParams page: the same keys whatever was chosen, and what its sweep varies."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from normlab.app.canonical import canonical, fingerprint_of, sequences_per_step
from normlab.app.mode import is_in_sweep
from normlab.app.options import group_descriptions
from normlab.app.sweeps.plan import SweepPlan
from normlab.core.errors import CheckpointError
from normlab.core.fingerprint import fingerprint
from normlab.report.variants import label_of
from normlab.telemetry.hyper_parameters import HyperParameters

NOT_STUDIED = ("data", "experiment", "hydra", "logger", "size", "task", "telemetry", "tokenizer", "trainer")
QK_NORM = "model/norm@model.qk_norm"
RATE, BATCH = "optimizer.lr", "trainer.batch_size"
NUMBERS = (
    "model.width", "model.num_layers", "model.num_heads", "model.context_length", "init.scale.factor",
    "attention.scale.factor", RATE, "optimizer.weight_decay", "schedule.warmup_steps", "trainer.steps",
    BATCH,
)  # fmt: skip
"""Those that every run has: TensorBoard's parallel view leaves out a run that lacks one of its axes.

The seed is none of them: TensorBoard shows the first run's for all runs of an arm.
"""
FINGERPRINT_CHARACTERS = 8


def hyper_parameters(config: DictConfig) -> HyperParameters:
    """The options by group, where there is more than one, and the numbers of a run.

    In a sweep also what else it varies. An arm is called by its choices, rate and 8 hex of what sets it apart.
    """
    plan = _plan()
    legal: dict[str, Sequence[str]] = {
        group: list(options)
        for group, options in group_descriptions().items()
        if group.partition("/")[0] not in NOT_STUDIED and len(options) > 1
    }
    legal[QK_NORM] = legal["model/norm"]
    choices = HydraConfig.get().runtime.choices
    options = {group: str(choices[group]) for group in legal if group in choices}
    chosen = {} if plan is None else _chosen(plan, config)
    for key in chosen.keys() - legal.keys() - set(NUMBERS):
        legal[key] = [] if plan is None else plan.varied[key]
        options[key] = chosen[key]
    own = fingerprint({**canonical(config), "seed": None})[:FINGERPRINT_CHARACTERS]
    return HyperParameters(
        arm=f"{label_of(chosen, config.optimizer.lr)} ({own})",
        options=options,
        numbers=_numbers(config),
        legal_options=legal,
        number_keys=NUMBERS,
        varied=[] if plan is None else _varied(plan),
    )


def _numbers(config: DictConfig) -> dict[str, float]:
    """Of the keys that every run has; the batch is that of a step, however much of it a device takes at a time."""
    numbers = {key: float(OmegaConf.select(config, key)) for key in NUMBERS}
    return numbers | {BATCH: float(sequences_per_step(config.trainer))}


def _plan() -> SweepPlan | None:
    """Of the sweep that the run is part of; a plan that cannot be read is no reason to end the run."""
    if not is_in_sweep():
        return None
    try:
        return SweepPlan.read(Path(HydraConfig.get().sweep.dir))
    except CheckpointError:
        return None


def _chosen(plan: SweepPlan, config: DictConfig) -> Mapping[str, str]:
    """The run's choices under study: those of the first job that builds its model."""
    own = fingerprint_of(config)
    return next((job.choices for job in plan.jobs if job.fingerprint == own), {})


def _varied(plan: SweepPlan) -> list[str]:
    """The keys of which the sweep has several values."""
    rates = {job.lr for job in (*plan.jobs, *plan.searches)}
    return [
        *(key for key, values in plan.varied.items() if len(values) > 1),
        *([RATE] if len(rates) > 1 or plan.searches else []),
    ]
