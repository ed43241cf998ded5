"""The residual path around a sublayer f: its norm slots, and the rule that adds f's output to the stream.

Shapes: ``BTD`` batch, time, width.
"""

from collections.abc import Callable

from torch import Tensor, nn

from normlab.model.norms import NormFactory
from normlab.model.placement import Placement

ResidualFactory = Callable[[int], nn.Module]


class PlainResidual(nn.Module):
    """x + update.  He et al. 2016."""

    def __init__(self, width: int):
        super().__init__()

    def forward(self, x_BTD: Tensor, update_BTD: Tensor) -> Tensor:
        return x_BTD + update_BTD


class ResidualPath(nn.Module):
    """y = output_norm(residual(x, branch_norm(f(input_norm(x))))).

    The sublayer f comes with the call, so that its parameters keep the short names of their own place.
    """

    def __init__(self, width: int, norm: NormFactory, placement: Placement, residual: ResidualFactory):
        super().__init__()
        self.input_norm = placement.norm("input", norm, width)
        self.branch_norm = placement.norm("branch", norm, width)
        self.residual = residual(width)
        self.output_norm = placement.norm("output", norm, width)

    def forward(self, x_BTD: Tensor, sublayer: nn.Module) -> Tensor:
        update_BTD = self.branch_norm(sublayer(self.input_norm(x_BTD)))
        return self.output_norm(self.residual(x_BTD, update_BTD))
