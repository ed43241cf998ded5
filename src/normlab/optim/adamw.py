"""AdamW."""

from torch import nn, optim

from normlab.core.types import Decay, NonNegative, Positive
from normlab.optim.groups import decay_groups


def adamw(
    model: nn.Module,
    *,
    lr: Positive,
    betas: tuple[Decay, Decay],
    eps: Positive,
    weight_decay: NonNegative,
) -> optim.AdamW:
    """theta <- theta - lr * (m_hat / (sqrt(v_hat) + eps) + weight_decay * theta).  Loshchilov & Hutter 2019.

    m and v are the running means of the gradient and of its square with rates ``betas``, bias-corrected. The decay
    is multiplied by the learning rate, as in PyTorch; in the paper's algorithm 2 only by the schedule
    (``normlab.optim.adamw_independent``).
    """
    beta1, beta2 = betas
    is_real = all(parameter.device.type != "meta" for parameter in model.parameters())  # a fused kernel needs memory
    return optim.AdamW(decay_groups(model, weight_decay), lr=lr, betas=(beta1, beta2), eps=eps, fused=is_real)
