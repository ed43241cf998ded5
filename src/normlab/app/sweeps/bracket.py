"""Bisection on a grid of rates, counted from 0: between which neighbours does survival end?

The bracket is (a, b): ``b`` is the smallest index that is known to die, ``a`` the largest below it that is known to
live. Where none is known, a is -1 and b is the size of the grid, as if there were a living rate below the grid and a
dead one above it; so an end of the grid is tried before a search says that survival ends there.

Where survival is monotone, (a, b) closes around the one boundary there is. Where it is not, it closes around *a*
boundary: there may be others, above it and, among the rates below that were not tried, also below it.
"""

from collections.abc import Mapping


def bracket(is_alive: Mapping[int, bool], size: int) -> tuple[int, int]:
    """(a, b) of what is known; the order in which it became known does not matter."""
    first_dead = min((index for index, alive in is_alive.items() if not alive), default=size)
    last_alive = max((index for index, alive in is_alive.items() if alive and index < first_dead), default=-1)
    return last_alive, first_dead


def next_to_bracket(is_alive: Mapping[int, bool], size: int, start: int | None) -> int | None:
    """The index to try next, None when a and b are neighbours.

    Without a start the middle of (a, b): ceil(log2(size + 1)) runs in all. With one, where survival is expected to
    end after ``start``: first that, then outward in steps of 1, 2, 4, … until both ends are known, then the middle;
    at most 2 + 2 log2(d + 1) runs where the boundary turns out to be d places away.
    """
    last_alive, first_dead = bracket(is_alive, size)
    if first_dead - last_alive <= 1:
        return None
    if start is None:
        return (last_alive + first_dead) // 2
    if last_alive < start < first_dead:
        return start
    if first_dead == size:
        return min(last_alive + (last_alive - start) + 1, size - 1)
    if last_alive == -1:
        return max(first_dead - (start - first_dead) - 1, 0)
    return (last_alive + first_dead) // 2
