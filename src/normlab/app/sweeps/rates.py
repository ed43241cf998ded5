"""The learning rates among which a search chooses."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from normlab.core.errors import ConfigError
from normlab.core.types import Bounds, Positive

SIGNIFICANT_DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class RateGrid:
    """lowest * 10^(k / per_decade) for k = 0, 1, … up to ``highest``.

    Anchored at its lowest rate, so that all seeds and variants try rates of one grid, and a search that is started
    again tries the same ones. Rates have four significant digits, which can be typed and read. Raises ConfigError
    where ``highest`` is below ``lowest``.
    """

    lowest: Positive
    highest: Positive
    per_decade: Annotated[int, Bounds(low=1, high=100)]

    def __post_init__(self) -> None:
        if self.highest < self.lowest:
            raise ConfigError(
                f"hydra.sweeper.highest must be at least lowest, {self.lowest:g}; got {self.highest:g}. "
                f"Type hydra.sweeper.lowest={self.highest:g} hydra.sweeper.highest={self.lowest:g}."
            )

    @cached_property
    def rates(self) -> tuple[float, ...]:
        """All of them, in ascending order."""
        exact_last = self.per_decade * math.log10(self.highest / self.lowest)
        return tuple(self._rate(index) for index in range(math.floor(exact_last + 1e-6) + 1))

    @cached_property
    def index(self) -> dict[float, int]:
        """The place of each rate in ``rates``."""
        return {rate: index for index, rate in enumerate(self.rates)}

    def _rate(self, index: int) -> float:
        return float(f"{self.lowest * 10 ** (index / self.per_decade):.{SIGNIFICANT_DIGITS}g}")
