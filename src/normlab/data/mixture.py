"""Several token arrays as one: joined end to end, and drawn from by weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from normlab.core.errors import ConfigError, DataError
from normlab.data.windows import TokenArray, Tokens, stream


class JoinedTokens:
    """Token arrays one after another under one index, without a copy; a window may reach over a border."""

    def __init__(self, arrays: Sequence[TokenArray]):
        self.arrays = list(arrays)
        self._ends = np.cumsum([len(array) for array in self.arrays], dtype=np.int64)
        self.starts = np.concatenate([np.zeros(1, np.int64), self._ends[:-1]])

    def __len__(self) -> int:
        """The tokens of all arrays together."""
        return int(self._ends[-1])

    def __getitem__(self, positions: NDArray[np.int64], /) -> Tokens:
        """The tokens at the positions, which are 0 to ``len`` - 1, in their shape; raises IndexError for others."""
        if positions.size and not 0 <= positions.min() <= positions.max() < len(self):
            raise IndexError(f"positions must be 0 to {len(self) - 1}; got {positions.min()} to {positions.max()}")
        owners = self.owners(positions)
        found = np.unique(owners)
        if len(found) == 1:
            return self.arrays[found[0]][positions - self.starts[found[0]]]
        picked = np.empty(positions.shape, np.int64)
        for owner in found:
            chosen = owners == owner
            picked[chosen] = self.arrays[owner][positions[chosen] - self.starts[owner]]
        return picked

    def owners(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Which array holds each position."""
        return np.searchsorted(self._ends, positions, side="right")


@dataclass(frozen=True, eq=False)
class Mixture:
    """Token arrays with weights: a sequence comes from array i with probability weight_i / sum of weights."""

    arrays: Sequence[TokenArray]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        """Raise ConfigError where the weights are not a distribution over the arrays."""
        if len(self.weights) != len(self.arrays):
            raise ConfigError(
                f"A mixture must have a weight for every source; got {len(self.weights)} for {len(self.arrays)}. "
                "Give as many."
            )
        if not all(math.isfinite(weight) and weight >= 0 for weight in self.weights) or not sum(self.weights) > 0:
            raise ConfigError(
                f"The weights of a mixture must be numbers of at least 0, one of them above; got {list(self.weights)}."
            )

    @cached_property
    def tokens(self) -> JoinedTokens:
        """All arrays joined: what ``offsets`` point into."""
        return JoinedTokens(self.arrays)

    def offsets(self, *, batch_size: int, context_length: int, seed: int, step: int) -> Tokens:
        """Where the windows of a step begin in ``tokens``: for every sequence its array, then a uniform window of it.

        With replacement, a function of (seed, step) alone; no window reaches over a border. Raises DataError where
        an array that can be drawn is shorter than one window and the token after it.
        """
        num_offsets = np.array([len(array) - context_length for array in self.arrays])
        for index, weight in enumerate(self.weights):
            if weight > 0 and num_offsets[index] <= 0:
                raise DataError(
                    f"Every source of a mixture must hold more tokens than model.context_length={context_length}; "
                    f"source {index} has {len(self.arrays[index])}. Set its weight to 0 or shorten the context."
                )
        generator = stream("mixture", seed, step)
        limits = np.cumsum(np.array(self.weights, np.float64) / sum(self.weights))
        last_drawable = int(np.flatnonzero(self.weights)[-1])  # the sum may round to a little less than one
        sources_B = np.searchsorted(limits, generator.random(batch_size), side="right").clip(max=last_drawable)
        return self.tokens.starts[sources_B] + generator.integers(num_offsets[sources_B])
