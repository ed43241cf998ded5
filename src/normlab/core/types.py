"""Value types for experiment knobs: a type and the range in which it is legal.

A constructor's keyword-only parameters are annotated with these, and that signature *is* the
schema against which a configuration is checked (see ``normlab.app.schema``).
"""

import math
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Bounds:
    """Legal values lie in [low, high]; an ``open_low`` or ``open_high`` end is itself excluded."""

    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def admits(self, value: float) -> bool:
        """True where the value is a finite number within the bounds."""
        above = value > self.low if self.open_low else value >= self.low
        below = value < self.high if self.open_high else value <= self.high
        return math.isfinite(value) and above and below

    def __str__(self) -> str:
        """The bounds in words, to follow "a number"."""
        if self.high == math.inf:
            return f"greater than {self.low:g}" if self.open_low else f"at least {self.low:g}"
        left, right = "(" if self.open_low else "[", ")" if self.open_high else "]"
        return f"in {left}{self.low:g}, {self.high:g}{right}"


Positive = Annotated[float, Bounds(low=0, open_low=True)]
NonNegative = Annotated[float, Bounds(low=0)]
Fraction = Annotated[float, Bounds(low=0, high=1)]
Decay = Annotated[float, Bounds(low=0, high=1, open_high=True)]
Count = Annotated[int, Bounds(low=1)]
CountOrZero = Annotated[int, Bounds(low=0)]
