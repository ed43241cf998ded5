"""Learning-rate schedules: functions of the step. The trainer gives ``peak_lr`` and ``total_steps``."""

import math
from collections.abc import Callable

from normlab.core.types import CountOrZero, Fraction

Schedule = Callable[[int], float]


def cosine(
    step: int, peak_lr: float, total_steps: int, *, warmup_steps: CountOrZero, min_lr_fraction: Fraction
) -> float:
    """Linear from 0 over ``warmup_steps``, half a cosine down to the floor at ``total_steps``, constant after.

    With p = (step - warmup) / (total - warmup) and floor = min_lr_fraction * peak, the middle part is
    floor + (1 + cos(pi p)) / 2 * (peak - floor).  Loshchilov & Hutter 2017, eq. 5; the CS336 handout, section 4.4.
    """
    floor = min_lr_fraction * peak_lr
    if step < warmup_steps:
        return peak_lr * step / warmup_steps
    if step >= total_steps:
        return floor
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return floor + 0.5 * (1.0 + math.cos(math.pi * progress)) * (peak_lr - floor)


def constant(step: int, peak_lr: float, total_steps: int, *, warmup_steps: CountOrZero) -> float:
    """Linear from 0 over ``warmup_steps``, then the peak."""
    return peak_lr * min(1.0, step / warmup_steps) if warmup_steps > 0 else peak_lr
