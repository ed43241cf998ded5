"""Where the numbers of a model end: what a statistic cannot pass in its arithmetic."""

import math
from dataclasses import dataclass

import numpy as np
from torch import nn

from normlab.model.attention import ExplicitAttention
from normlab.model.clamp import limit_of
from normlab.model.language_model import LanguageModel
from normlab.model.norms import L2Norm, LayerNorm, RMSNorm
from normlab.model.softmax import StableSoftmax

LARGEST = float(np.finfo(np.float32).max)
"""The largest finite float32; bfloat16 ends 0.4 % below it."""
LARGEST_SQUARED = math.sqrt(LARGEST)
"""What has a finite square."""
LARGEST_EXPONENT = math.log(LARGEST)
"""What has a finite exponential."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The facts of an architecture from which limits follow; called with a tag, the limit of that statistic or None.

    - ``attention_logit_max/layer_<n>``: ln of the largest float32, only where the softmax takes exp of the logits as
      they are (``softmax_overflows``) and no clamp bounds them below that (``clamp_limit``, None without one). Sums
      over many keys and the backward pass may overflow a little below it.
    - ``activation_absmax/<site>``: the largest float32; its square root for the stream (``residual``, ``embedding``)
      where a norm squares it (``squares_stream``). An RMS has no limit of its own: the largest magnitude comes first.
    - ``grad_norm``, the total before clipping: the square root too, for it is a sum of squares.
    """

    softmax_overflows: bool
    clamp_limit: float | None
    squares_stream: bool
    context_length: int

    def __call__(self, tag: str) -> float | None:
        """The limit of a statistic."""
        statistic, *place = tag.split("/")
        if tag in ("grad_norm", "grad_norm/total"):
            return LARGEST_SQUARED
        if statistic == "attention_logit_max":
            return LARGEST_EXPONENT if self.exponential_overflows else None
        if statistic == "activation_absmax":
            return LARGEST_SQUARED if self.squares_stream and place[0] in ("residual", "embedding") else LARGEST
        return None

    @property
    def exponential_overflows(self) -> bool:
        """Whether attention logits that grow make the exponential of the softmax infinite."""
        return self.softmax_overflows and (self.clamp_limit is None or self.clamp_limit > LARGEST_EXPONENT)


def limits_of(model: LanguageModel) -> Limits:
    """The facts, read from a model."""
    attends = [module for module in model.modules() if isinstance(module, ExplicitAttention)]
    clamps = [limit_of(attend.clamp) for attend in attends]
    bounds = [bound for bound in clamps if bound is not None]
    return Limits(
        softmax_overflows=any(not isinstance(attend.softmax, StableSoftmax) for attend in attends),
        clamp_limit=max(bounds) if bounds and len(bounds) == len(clamps) else None,
        squares_stream=any(_squares(module) for name, module in model.named_modules() if _is_on_stream(name)),
        context_length=model.context_length,
    )


def _is_on_stream(name: str) -> bool:
    return name == "final_norm" or name.endswith(".input_norm")


def _squares(module: nn.Module) -> bool:
    return isinstance(module, RMSNorm | LayerNorm | L2Norm)
