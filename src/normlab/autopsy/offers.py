"""What is offered against each mechanism, the most to the point first: a choice, and a clause that says what it does.

Whether a model can use it is the remedy's own knowledge; whether the run has it already is seen from its overrides.
"""

from collections.abc import Iterator, Mapping

from normlab.autopsy.mechanisms import Mechanism
from normlab.autopsy.story import Story
from normlab.telemetry.remedies import (
    ALL_SITES,
    FINAL_NORM,
    HARD_CLAMP,
    OUTPUT_CAP,
    PERI,
    QK_NORM,
    REZERO,
    RMSNORM,
    SMALL_FFN,
    SMALL_FFN_WITHOUT_NORM,
    SMALL_OUT,
    SOFT_CLAMP,
    STABLE_SOFTMAX,
    UNIT,
    Remedy,
)

NUMBERS = (
    "optimizer.lr", "optimizer.eps", "schedule.warmup_steps", "trainer.grad_clip", "loss.coefficient",
    "model.norm.eps", "model.qk_norm.eps",
)  # fmt: skip
"""The keys of the configuration that offers depend on; no configuration has all of them."""

Numbers = Mapping[str, float | None]
"""The values of ``NUMBERS``, None where a configuration has no such key, or null."""

Offer = tuple[Remedy, str]

LOWER_FACTOR, LONGER_FACTOR = 3, 2
USUAL_CLIP, USUAL_EPS, USUAL_OPTIMIZER_EPS = 1.0, 1e-5, 1e-8
NEAR_WARMUP = 2
"""A run that died within so many warmups may have been warmed up too fast."""
BY_UPDATES: tuple[Mechanism, ...] = ("softmax_underflow", "gradients", "moments", "weights", "unknown")

Offers = tuple[Offer, ...]

HARD = (HARD_CLAMP, "bounds the logits; beyond the bound they get no gradient")
SOFT = (SOFT_CLAMP, "bounds the logits smoothly")
NORMED_QUERIES = (QK_NORM, "bounds the logits by norming queries and keys")
NORMED_ATTENTION: Offers = (
    (RMSNORM, "keeps queries and keys from growing with the residual stream"),
    (ALL_SITES, "norms what attention reads, so that its logits do not grow with the residual stream"),
)
AS_DRAWN = (UNIT, "starts from weights as they were drawn, not enlarged")
SMALLER_BRANCHES: Offers = (
    (RMSNORM, "norms what each sublayer reads, so that sizes do not multiply with depth"),
    (ALL_SITES, "norms what each sublayer reads, so that sizes do not multiply with depth"),
    AS_DRAWN,
)
BY_MECHANISM: Mapping[Mechanism, Offers] = {
    "softmax_overflow": (
        (STABLE_SOFTMAX, "removes the overflow, not the growth of the logits"),
        *(AS_DRAWN, HARD, SOFT, NORMED_QUERIES, *NORMED_ATTENTION),
        (SMALL_FFN_WITHOUT_NORM, "starts with a smaller residual stream, which may grow all the same"),
    ),
    "softmax_underflow": (
        (STABLE_SOFTMAX, "makes the largest exponential of every row 1, however negative its logits"),
        *(AS_DRAWN, HARD, SOFT, NORMED_QUERIES, *NORMED_ATTENTION),
    ),
    "attention_logits": (AS_DRAWN, NORMED_QUERIES, *NORMED_ATTENTION, SOFT, HARD),
    "attention": (*SMALLER_BRANCHES, (SMALL_OUT, "starts both last projections smaller")),
    "feed_forward": (*SMALLER_BRANCHES, (SMALL_FFN, "starts the feed-forward's last projection smaller")),
    "stream": (
        *SMALLER_BRANCHES,
        (PERI, "norms also what each sublayer adds to the stream"),
        (REZERO, "starts with nothing added to the stream, and learns how much to add"),
        (SMALL_OUT, "starts with less added to the stream"),
    ),
    "output": (
        (FINAL_NORM, "norms what the head reads"),
        (RMSNORM, "norms what each sublayer and the head read"),
        (OUTPUT_CAP, "bounds the logits before the loss"),
        AS_DRAWN,
    ),
    "gradients": (*SMALLER_BRANCHES, (REZERO, "starts with layers that pass the gradient on as it is")),
    "moments": SMALLER_BRANCHES,
}
"""What a model can be built or drawn with."""


def against(mechanism: Mechanism, site: str | None, story: Story, numbers: Numbers) -> Iterator[Offer]:
    """The offers in their order; ``site`` is where the first non-finite value arose, where that is known.

    What acts through updates is offered only after some had been made.
    """
    yield from BY_MECHANISM.get(mechanism, ())
    if mechanism == "division" and site is not None:
        yield from _larger_eps(site, numbers)
    if story.end_step > 1:
        yield from _gentler_updates(mechanism, story, numbers)


def _gentler_updates(mechanism: Mechanism, story: Story, numbers: Numbers) -> Iterator[Offer]:
    if mechanism in ("bad_input", "mask", "division"):
        return
    if mechanism == "output" and numbers["loss.coefficient"] is None:
        yield _value("loss=z_loss", "keeps the logits small in the course of training")
    if mechanism in ("gradients", "moments", "weights") and numbers["trainer.grad_clip"] is None:
        yield _value(f"trainer.grad_clip={USUAL_CLIP:g}", "bounds the gradient that each update is made from")
    optimizer_eps = numbers["optimizer.eps"]
    if mechanism == "weights" and optimizer_eps is not None and optimizer_eps < USUAL_OPTIMIZER_EPS:
        yield _value(f"optimizer.eps={USUAL_OPTIMIZER_EPS:g}", "bounds the update where the moments vanish")
    lr, warmup_steps = numbers["optimizer.lr"], numbers["schedule.warmup_steps"]
    if lr is not None and (story.growths or mechanism in BY_UPDATES):
        yield _value(f"optimizer.lr={lr / LOWER_FACTOR:.1g}", "slows what grew from update to update")
    if warmup_steps is not None and mechanism in BY_UPDATES and story.end_step <= NEAR_WARMUP * warmup_steps:
        longer = f"schedule.warmup_steps={LONGER_FACTOR * warmup_steps:g}"
        yield _value(longer, "lets the rate rise more slowly: the end came near the warmup's")


def _larger_eps(site: str, numbers: Numbers) -> Iterator[Offer]:
    key = "model.qk_norm.eps" if site.startswith(("attention.query_norm", "attention.key_norm")) else "model.norm.eps"
    eps = numbers[key]
    if "_norm" in site and eps is not None and eps < USUAL_EPS:
        yield _value(f"{key}={USUAL_EPS:g}", f"keeps the divisor from zero; it is {eps:g}")


def _value(choice: str, reason: str) -> Offer:
    return Remedy(choice, lambda model: True), reason
