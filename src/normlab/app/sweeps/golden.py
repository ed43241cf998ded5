"""Golden-section search on a grid of rates, counted from 0: at which index is the loss lowest?

Kiefer (1953), on integers and without a memory: what is tried next follows from the set of known losses alone, so
that whatever else has run, a bisection for one, is made use of. The index of the lowest known loss stands between
its known neighbours; the wider of the two gaps is cut at 1 - 1/phi of its width, counted from that index. It ends when
there is no gap: then the lowest known loss is lower than that of both neighbours on the grid.

That this is the lowest of all supposes that the loss falls strictly up to one place and rises strictly behind it, as
far as runs live. Of noisy losses it finds a local minimum, which is the lowest of all that were tried.
"""

import math
from collections.abc import Mapping

CUT = (3 - math.sqrt(5)) / 2
"""1 - 1/phi = 0.382."""


def lowest(losses: Mapping[int, float]) -> int | None:
    """The index of the lowest finite loss, of equal ones the smallest; None where there is none. inf is a death."""
    alive = [index for index, loss in losses.items() if loss < math.inf]
    return min(alive, key=lambda index: (losses[index], index), default=None)


def next_to_lowest(losses: Mapping[int, float], size: int, start: int | None) -> int | None:
    """The index to try next; None when both neighbours of the lowest are known, or all that is known is dead.

    With a ``start``, where the minimum is expected: first that, then the neighbours of the lowest, in steps that grow
    with its distance from the start.
    """
    best = lowest(losses)
    if best is None:
        return None
    below = max((index for index in losses if index < best), default=-1)
    above = min((index for index in losses if index > best), default=size)
    gap = max(best - below, above - best)
    if gap == 1:
        return None
    step = max(1, round(CUT * gap))
    if start is not None:
        if below < start < above and start != best:
            return start
        step = min(step, 2 * abs(best - start) + 1)
    return best - step if best - below == gap else best + step
