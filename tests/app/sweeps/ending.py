"""An optimizer that, after two steps, ends its run or its process in the way that the configuration names."""

import math
import os
import signal
from pathlib import Path

import torch
from torch import optim

from normlab.core.types import Decay, NonNegative, Positive
from normlab.model.language_model import LanguageModel
from normlab.optim.adamw import adamw

SPARED = "spared"
"""While a file of this name is in the working folder, nothing crashes and nothing is killed."""
AFTER_STEP = 2


def ending_adamw(
    model: LanguageModel,
    *,
    lr: Positive,
    betas: tuple[Decay, Decay],
    eps: Positive,
    weight_decay: NonNegative,
    end: str,
) -> optim.AdamW:
    """AdamW; ``end`` is lives, dies (a weight is no number any more), crashes or killed."""
    optimizer = adamw(model, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    @torch.no_grad()
    def act(*_: object) -> None:
        if int(next(iter(optimizer.state.values()))["step"]) != AFTER_STEP:
            return
        if end == "dies":
            model.get_parameter("layers.1.ffn.up.weight")[3, 4] = math.nan
        elif not Path(SPARED).exists() and end == "crashes":
            raise RuntimeError("a planted fault")
        elif not Path(SPARED).exists() and end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)

    optimizer.register_step_post_hook(act)
    return optimizer


ENDS = (
    f"optimizer._target_={ending_adamw.__module__}.{ending_adamw.__name__}",
    "allow_targets=[tests]",
    "+optimizer.end=lives,dies,crashes,killed",
)
