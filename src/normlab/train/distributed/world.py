"""The processes that take the steps of one run together, and what they have to agree on."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

Made = TypeVar("Made")


class MainFailed(Exception):
    """Rank 0 has failed and said why; the others end with its exit code."""

    def __init__(self, exit_code: int):
        super().__init__(f"rank 0 has ended with exit code {exit_code}")
        self.exit_code = exit_code


class World:
    """A process by itself: rank 0 of 1, which agrees with itself at no cost.

    Where there are more (:class:`normlab.train.distributed.group.Group`), every one of them has to make the same calls
    in the same order, and each gets the same answer: so all of them take the same branch.
    """

    rank = 0
    size = 1
    local_rank = 0
    local_size = 1

    @property
    def is_main(self) -> bool:
        """Rank 0 alone writes and speaks."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """Over the processes; NaN where one's is."""
        return value

    def sums(self, values: Sequence[float]) -> list[float]:
        """Of each, over the processes."""
        return list(values)

    def gathered(self, values: Tensor) -> Tensor:
        """Those of all processes, stacked in the order of their ranks."""
        return values[None]

    def largest(self, number: int) -> int:
        """Of the processes' numbers."""
        return number

    def any(self, flag: bool) -> bool:
        """Whether it is so in one of the processes."""
        return bool(self.largest(int(flag)))

    def from_main(self, make: Callable[[], Made]) -> Made:
        """What ``make``, called by rank 0 alone, returns: JSON values. The others raise MainFailed where it raises."""
        return make()

    def main_first(self, make: Callable[[], Made]) -> Made:
        """What ``make`` returns, called by rank 0, then by all others; MainFailed as above."""
        return make()

    def abandon(self) -> None:
        """This process ends by itself, with something that it alone has met: it waits for no other any more."""

    def explained(self, error: Exception) -> Exception:
        """The error, or where it came of another process that is gone, one that names that."""
        return error


ALONE = World()
