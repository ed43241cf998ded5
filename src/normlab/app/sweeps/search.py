"""The search for one variant's and seed's largest stable and best learning rate, in few runs.

First the rates between which survival ends are found by bisection (``bracket``), then the rate of the lowest final
validation loss by golden-section search (``golden``), which begins with the losses that the bisection left. A run
that dies where survival was taken for granted opens the bisection again, below it.

What is tried next is a function of the set of results told, and of nothing else. So a search that was interrupted
and is told what there is asks for the very runs that it would have asked for.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from normlab.app.sweeps.bracket import bracket, next_to_bracket
from normlab.app.sweeps.golden import lowest, next_to_lowest
from normlab.app.sweeps.rates import RateGrid
from normlab.report.frontier import Frontier
from normlab.report.rate_grid import Edge


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search knows. It ``is_complete`` when it has no rate left to try.

    The ``frontier`` is censored at both ends of the grid: its ``lr`` is None where even the lowest rate kills, its
    ``next_dead`` where even the highest does not. Rates known to live above a dead one are in ``survived_beyond``.
    ``best_lr`` is the rate of the lowest loss of all that were tried, None where all died; at an ``edge`` of the grid
    the best of all may lie beyond. It took ``num_runs`` in place of the ``num_grid_runs`` of the whole grid. ``remark``
    says why a search stopped before it was complete.
    """

    frontier: Frontier
    best_lr: float | None
    best_loss: float | None
    edge: Edge | None
    num_runs: int
    num_grid_runs: int
    is_complete: bool
    remark: str | None


class RateSearch:
    """Says which rate to try next, and is told what became of it.

    ``start`` is what was found for another seed or variant. It saves runs where this one is alike. Where survival is
    monotone and the loss has one minimum, it changes nothing else.
    """

    def __init__(self, grid: RateGrid, start: Found | None) -> None:
        self._grid = grid
        self._losses: dict[int, float] = {}
        self._remark: str | None = None
        self._last_alive: int | None = None
        self._best: int | None = None
        if start is not None and start.is_complete:
            rate = start.frontier.lr
            self._last_alive = 0 if rate is None else grid.index[rate]
            self._best = None if start.best_lr is None else grid.index[start.best_lr]

    def next_rate(self) -> float | None:
        """The rate to try next; None when the search is complete, or has stopped. Asking changes nothing."""
        index = None if self._remark is not None else self._next_index()
        return None if index is None else self._grid.rates[index]

    def tell(self, rate: float, loss: float | None) -> None:
        """The final validation loss of the run at a rate, None for one that died. Repeating a result is allowed.

        Raises ValueError for a rate that is not on the grid, a loss that is not finite, and another loss than before.
        """
        if rate not in self._grid.index:
            raise ValueError(f"rate must be one of {self._grid.rates}; got {rate}. Tell what next_rate() asked for.")
        if loss is not None and not math.isfinite(loss):
            raise ValueError(f"loss must be finite; got {loss} at {rate:g}. Tell None for a run that died.")
        index, told = self._grid.index[rate], math.inf if loss is None else loss
        if self._losses.setdefault(index, told) != told:
            raise ValueError(f"a rate has one loss; got {told} at {rate:g}, earlier {self._losses[index]}.")

    def tell_no_result(self, rate: float, why: str) -> None:
        """The run at a rate crashed or was cut short, which says neither alive nor dead: the search stops here.

        Whether to try again is not its business: a new search that is told the same results asks for the run again.
        """
        self._remark = f"stopped: the run at {rate:g} {why}"

    def found(self) -> Found:
        """What is known by now."""
        rates, size = self._grid.rates, len(self._grid.rates)
        last_alive, first_dead = bracket(self._is_alive(), size)
        best = lowest(self._losses)
        return Found(
            frontier=Frontier(
                lr=rates[last_alive] if last_alive >= 0 else None,
                next_dead=rates[first_dead] if first_dead < size else None,
                survived_beyond=tuple(
                    rates[i] for i in sorted(self._losses) if first_dead < i and self._losses[i] < math.inf
                ),
                num_runs=len(self._losses),
            ),
            best_lr=None if best is None else rates[best],
            best_loss=None if best is None else self._losses[best],
            edge="lowest" if best == 0 else "highest" if best == size - 1 else None,
            num_runs=len(self._losses),
            num_grid_runs=size,
            is_complete=self._next_index() is None,
            remark=self._remark,
        )

    def _next_index(self) -> int | None:
        size = len(self._grid.rates)
        index = next_to_bracket(self._is_alive(), size, self._last_alive)
        return next_to_lowest(self._losses, size, self._best) if index is None else index

    def _is_alive(self) -> Mapping[int, bool]:
        return {index: loss < math.inf for index, loss in self._losses.items()}
