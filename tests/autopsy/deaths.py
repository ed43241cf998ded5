"""Findings, stories and settings of made-up deaths."""

from dataclasses import replace
from typing import Any

from normlab.autopsy.advice import Setting
from normlab.autopsy.finding import Contents, Elements, FirstNonfinite
from normlab.autopsy.story import Crossing, ExponentialFit, Growth, Story
from normlab.telemetry.architecture import Architecture

NORMED = Architecture(
    norm_slots=["input"], norm_sites=["attention", "ffn", "final"], has_qk_norm=False, has_qk_clip=False,
    softmax_overflows=False, clamp_limit=None, logit_scale_factor=1.0, output_cap=None, branch_gain=1.0,
    tied_head_gain=None, init="Xavier", init_scale_factor=1.0, init_scale_roles=[], sets_weight_sizes=False,
)  # fmt: skip
BARE = replace(NORMED, norm_slots=[], norm_sites=[])
NAIVE = replace(BARE, softmax_overflows=True)
NUMBERS = {
    "optimizer.lr": 0.03, "optimizer.eps": 1e-8, "schedule.warmup_steps": 50, "trainer.grad_clip": 1.0,
    "loss.coefficient": None, "model.norm.eps": None, "model.qk_norm.eps": None,
}  # fmt: skip

EXPONENTIAL = FirstNonfinite(
    phase="forward",
    layer=3,
    site="attention.attend.softmax",
    operation="aten.exp",
    kind="exp_overflow",
    limit_dtype="float32",
    inputs=(Contents("self", "float32", (8, 4, 128, 128), -141.25, 137.125, 260096),),
    output=Contents("output", "float32", (8, 4, 128, 128), 0.0, 1e38, 29),
    elements=Elements(29, ((0, 1, 30, 4), (0, 1, 31, 4)), (0, 5), tuple(range(30, 42)), (1,)),
)
LOGITS_GROW = Growth(
    tag="attention_logit_max/layer_3",
    began_at=40,
    baseline=10.5,
    last=137.125,
    last_step=60,
    fit=ExponentialFit(
        rate=0.125, doubling_steps=5.545, r_squared=0.97, first_step=40, last_step=60, value_at_last=130.0
    ),
    limit=88.72,
    crosses_at=57.0,
)
LARGE_LOGIT = Crossing(tag="attention_logit_max/layer_3", threshold=30.0, meaning="so large a logit rules", step=48)


def finding(**changes: Any) -> FirstNonfinite:
    """EXPONENTIAL, but for what is given."""
    return replace(EXPONENTIAL, **changes)


def story(end_step: int = 60, *, growths=(LOGITS_GROW,), crossings=(LARGE_LOGIT,), loss_shows_at=None) -> Story:
    return Story(end_step=end_step, loss_shows_at=loss_shows_at, growths=growths, crossings=crossings)


def growth_of(tag: str, **changes: Any) -> Growth:
    """LOGITS_GROW of another statistic."""
    return replace(LOGITS_GROW, tag=tag, **changes)


def setting(*overrides: str, architecture: Architecture = NAIVE, **numbers: float | None) -> Setting:
    """Numbers by their keys, dots as two underscores."""
    given = {key.replace("__", "."): value for key, value in numbers.items()}
    return Setting(overrides=overrides, architecture=architecture, numbers={**NUMBERS, **given})
