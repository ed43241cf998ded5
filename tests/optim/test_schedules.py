"""Schedules at their boundaries, against the formula and against torch's own schedulers."""

import math
from functools import partial

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, SequentialLR

from normlab.optim.schedules import Schedule, constant, cosine

close = partial(pytest.approx, rel=1e-12, abs=1e-15)
PEAK, FLOOR_FRACTION, WARMUP, TOTAL = 0.3, 0.1, 7, 40
COSINE = partial(
    cosine, peak_lr=PEAK, total_steps=TOTAL, warmup_steps=WARMUP, min_lr_fraction=FLOOR_FRACTION
)  # fmt: skip


def torchs(warmup_steps: int, after: str) -> list[float]:
    """The learning rates of torch's linear warmup followed by its cosine (or nothing), steps 0 to TOTAL."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    # LinearLR cannot start at 0, so its ramp starts at step 1 and ours is compared from there.
    warmup = LinearLR(optimizer, start_factor=1 / warmup_steps, total_iters=warmup_steps - 1)
    rest: LRScheduler = LinearLR(optimizer, start_factor=1.0, total_iters=1)
    if after == "cosine":
        rest = CosineAnnealingLR(optimizer, T_max=TOTAL - warmup_steps, eta_min=FLOOR_FRACTION * PEAK)
    scheduler = SequentialLR(optimizer, [warmup, rest], milestones=[warmup_steps - 1])
    rates = []
    for _ in range(TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "after"),
    [(COSINE, "cosine"), (partial(constant, peak_lr=PEAK, total_steps=TOTAL, warmup_steps=WARMUP), "nothing")],
    ids=["cosine", "constant"],
)
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler.step:UserWarning")
def test_every_step_equals_torchs(schedule: Schedule, after: str):
    assert [schedule(step) for step in range(1, TOTAL + 1)] == close(torchs(WARMUP, after))


def test_cosine_at_its_boundaries():
    floor = FLOOR_FRACTION * PEAK
    assert COSINE(0) == 0.0
    assert COSINE(1) == close(PEAK / WARMUP)
    assert COSINE(WARMUP - 1) == close(PEAK * 6 / 7)
    assert COSINE(WARMUP) == close(PEAK)
    assert COSINE(WARMUP + 11) == close(floor + (1 + math.cos(math.pi / 3)) / 2 * (PEAK - floor))
    assert COSINE(TOTAL) == floor
    assert COSINE(TOTAL - 1) > floor
    assert COSINE(TOTAL + 1) == COSINE(10 * TOTAL) == floor


def test_half_way_down_is_half_way_between():
    halfway = partial(cosine, peak_lr=2.0, total_steps=30, warmup_steps=10, min_lr_fraction=0.5)
    assert halfway(20) == close(1.5)


def test_cosine_rises_then_falls():
    rates = [COSINE(step) for step in range(TOTAL + 1)]
    assert rates[: WARMUP + 1] == sorted(set(rates[: WARMUP + 1]))
    assert rates[WARMUP:] == sorted(set(rates[WARMUP:]), reverse=True)


@pytest.mark.parametrize("warmup_steps", [0, 1])
def test_without_warmup_the_peak_comes_first(warmup_steps: int):
    decaying = partial(cosine, peak_lr=PEAK, total_steps=TOTAL, warmup_steps=warmup_steps, min_lr_fraction=0.0)
    level = partial(constant, peak_lr=PEAK, total_steps=TOTAL, warmup_steps=warmup_steps)
    assert decaying(warmup_steps) == level(warmup_steps) == level(TOTAL) == PEAK
    assert decaying(TOTAL) == 0.0


def test_a_warmup_as_long_as_the_run_never_divides_by_zero():
    rates = [cosine(step, peak_lr=1.0, total_steps=4, warmup_steps=4, min_lr_fraction=0.1) for step in range(6)]
    assert rates == [0.0, 0.25, 0.5, 0.75, 0.1, 0.1]


def test_constant_ramps_and_stays():
    rates = [constant(step, peak_lr=2.0, total_steps=9, warmup_steps=4) for step in range(9)]
    assert rates == [0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 2.0]
