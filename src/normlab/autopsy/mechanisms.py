"""By which mechanism a run died: from the kind and place of the first non-finite value, else from the first sign."""

from typing import Literal

from normlab.autopsy.finding import FirstNonfinite
from normlab.autopsy.story import Story

Mechanism = Literal[
    "softmax_overflow",  # the exponential of attention logits from which no maximum was subtracted
    "softmax_underflow",  # all exponentials of a row zero, which no subtracted maximum kept from it
    "attention_logits",  # products of queries and keys too large, or growing
    "attention",  # the projections of attention
    "feed_forward",  # its projections, or the product with its gate
    "stream",  # the residual stream, its norms, and what is added to it
    "output",  # the head's logits, and the loss of them
    "gradients",  # overflown on the way back, or growing
    "moments",  # what an optimizer keeps of the gradients
    "weights",  # the update itself
    "division",  # by zero
    "mask",  # a row without a finite logit
    "bad_input",  # wrong before the step began
    "unknown",
]
BY_STATISTIC: dict[str, Mechanism] = {
    "attention_logit_max": "attention_logits",
    "attention_entropy": "attention_logits",
    "clamp_hit_rate": "attention_logits",
    "output_cap_hit_rate": "output",
    "grad_norm": "gradients",
    "gradient_rms": "gradients",
    "update_norm": "weights",
    "update_ratio": "weights",
    "weight_norm": "weights",
}
BY_SITE: dict[str, Mechanism] = {
    "ffn": "feed_forward",
    "ffn_hidden": "feed_forward",
    "attention": "attention",
    "logits": "output",
}


def mechanism_of(finding: FirstNonfinite | None, story: Story) -> Mechanism:
    """The mechanism; without a finding that of the statistic that grew, or crossed a threshold, first."""
    return _first_sign(story) if finding is None else _found(finding)


def _found(finding: FirstNonfinite) -> Mechanism:
    overflowed = finding.limit_dtype is not None
    match finding.kind:
        case "bad_input":
            return "bad_input"
        case "zero_over_zero":
            return "softmax_underflow" if finding.site.endswith("attend.softmax") else "division"
        case "update_overflow":
            return "weights" if finding.output.name == "weight" else "moments"
        case "inf_minus_inf" if finding.site.endswith("softmax") and not overflowed:
            return "mask"
    if finding.phase in ("backward", "optimizer"):
        return "gradients"
    if finding.kind == "exp_overflow":
        return "softmax_overflow" if finding.site.endswith("attend.softmax") else "unknown"
    return "unknown" if finding.kind == "other" else _at(finding.site)


def _at(site: str) -> Mechanism:
    """Of an overflow in the forward pass."""
    if site in ("loss", "head", "output_cap"):
        return "output"
    if site.startswith("ffn.") or site == "ffn":
        return "feed_forward"
    if site.startswith(("attention.attend", "attention.query_norm", "attention.key_norm")):
        return "attention_logits"
    return "attention" if site.startswith("attention.") or site == "attention" else "stream"


def _first_sign(story: Story) -> Mechanism:
    """What was so at the first step already, before any update, is no sign."""
    signs = [(growth.began_at, growth.tag) for growth in story.growths]
    signs += [(crossing.step, crossing.tag) for crossing in story.crossings if crossing.step > 1]
    if not signs:
        return "unknown"
    _, tag = min(signs, key=lambda sign: sign[0])
    statistic, *rest = tag.split("/")
    if statistic.startswith("activation_"):
        return BY_SITE.get(rest[0] if rest else "", "stream")
    return BY_STATISTIC.get(statistic, "unknown")
