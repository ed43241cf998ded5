"""Bounds on attention logits, applied before the causal mask; ``attention/clamp=none`` is ``torch.nn.Identity``."""

from torch import Tensor, nn

from normlab.core.types import Positive


class HardClamp(nn.Module):
    """min(max(z, -limit), limit): gradient 1 inside the bounds, 0 outside."""

    def __init__(self, *, limit: Positive):
        super().__init__()
        self.limit = limit

    def forward(self, logits: Tensor) -> Tensor:
        return logits.clamp(-self.limit, self.limit)

    def extra_repr(self) -> str:
        return f"limit={self.limit}"
