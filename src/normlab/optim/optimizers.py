"""Optimizers. Each takes the model from its parent; ``lr`` is the peak that the schedule scales.

Weight decay acts on matrices only; gains, biases and scalars are left alone.
"""

from torch import nn, optim

from normlab.core.types import Decay, NonNegative, Positive


def adamw(
    model: nn.Module,
    *,
    lr: Positive,
    betas: tuple[Decay, Decay],
    eps: Positive,
    weight_decay: NonNegative,
) -> optim.AdamW:
    """theta <- theta - lr * (m_hat / (sqrt(v_hat) + eps) + weight_decay * theta).  Loshchilov & Hutter 2019, alg. 2.

    m and v are the running means of the gradient and of its square with rates ``betas``, bias-corrected.
    """
    beta1, beta2 = betas
    return optim.AdamW(decay_groups(model, weight_decay), lr=lr, betas=(beta1, beta2), eps=eps)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two parameter groups: matrices with the weight decay, everything of fewer dimensions without."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
