"""Levels at which a statistic says that something goes wrong, well before its numbers end."""

import math
from dataclasses import dataclass

from normlab.autopsy.limits import LARGEST_EXPONENT, Limits

LARGE_LOGIT = 30.0
LOW_ENTROPY_FRACTION = 0.1
LARGE_GROWTH = 10.0
HARMLESS = {
    "attention_logit_max": LARGE_LOGIT,
    "activation_rms": 3.0,
    "activation_absmax": 30.0,
    "gradient_rms": 1.0,
    "grad_norm": 1.0,
    "update_ratio": 0.1,
}
"""Below these a statistic is no trouble, however much it has grown: layers without a norm keep an RMS of about 1, a
network drawn very small grows into that by many orders of magnitude."""


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """For all tags of a statistic: ``value``, or so many times its baseline; crossed from below, or, falling, from
    above. ``meaning`` is what is so beyond it."""

    statistic: str
    value: float
    of_baseline: bool
    falling: bool
    meaning: str


def thresholds(limits: Limits) -> tuple[Threshold, ...]:
    """Those that hold for an architecture.

    Logits: a weight is exp(z - max z) / sum, so that between logits that far apart next to nothing is left for the
    smaller; a clamp at or below the level keeps them together. Entropy: mean over the queries of a context, of which
    query t sees t tokens, the uniform one's is mean(ln t). Zhai et al. 2023 (entropy collapse), Dehghani et al. 2023
    (large logits in ViT-22B).
    """
    uniform = sum(math.log(tokens) for tokens in range(1, limits.context_length + 1)) / limits.context_length
    found = []
    if limits.clamp_limit is None or limits.clamp_limit > LARGE_LOGIT:
        found.append(
            _above("attention_logit_max", LARGE_LOGIT, "so large a logit leaves next to no weight for smaller ones")
        )
    if limits.exponential_overflows:
        overflow = "exp of it overflows float32, and this softmax subtracts no maximum first"
        found.append(_above("attention_logit_max", LARGEST_EXPONENT, overflow))
    if uniform > 0:
        meaning = f"below {LOW_ENTROPY_FRACTION:.0%} of uniform attention's: most queries look at a single token"
        low = LOW_ENTROPY_FRACTION * uniform
        found.append(
            Threshold(statistic="attention_entropy", value=low, of_baseline=False, falling=True, meaning=meaning)
        )
    for statistic in ("activation_rms", "grad_norm"):
        meaning = f"more than {LARGE_GROWTH:g} times its baseline, and more than healthy networks have"
        found.append(
            Threshold(statistic=statistic, value=LARGE_GROWTH, of_baseline=True, falling=False, meaning=meaning)
        )
    return tuple(found)


def harmless_level(tag: str) -> float:
    """Up to where a statistic is what healthy networks have; 0 where that depends on the network."""
    return HARMLESS.get(tag.split("/")[0], 0.0)


def _above(statistic: str, value: float, meaning: str) -> Threshold:
    return Threshold(statistic=statistic, value=value, of_baseline=False, falling=False, meaning=meaning)
