"""The searches of a whole sweep: one for every variant and seed."""

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from normlab.app.sweeps.rates import RateGrid
from normlab.app.sweeps.search import Found, RateSearch

V = TypeVar("V", bound=Hashable)


class RateSearches(Generic[V]):
    """A search for each pair of a variant and a seed, in the order of ``pairs``.

    The first seed of a variant searches from nothing; the others begin, once it has ended, with what it found. No
    search waits for another variant's, so that a round's runs can be made at the same time.
    """

    def __init__(self, grid: RateGrid, pairs: Sequence[tuple[V, int]]) -> None:
        self._grid = grid
        self._leaders: dict[V, tuple[V, int]] = {}
        for pair in pairs:
            self._leaders.setdefault(pair[0], pair)
        self._waiting = [pair for pair in pairs if pair != self._leaders[pair[0]]]
        self._searches = {pair: RateSearch(grid, None) for pair in self._leaders.values()}

    def next_runs(self) -> list[tuple[V, int, float]]:
        """Variant, seed and rate of the runs to make next, at most one of each pair; none when all is done."""
        self._begin_those_whose_leader_ended()
        rates = {pair: search.next_rate() for pair, search in self._searches.items()}
        return [(*pair, rate) for pair, rate in rates.items() if rate is not None]

    def tell(self, variant: V, seed: int, rate: float, loss: float | None) -> None:
        """The final validation loss of a run, None for one that died."""
        self._searches[variant, seed].tell(rate, loss)

    def tell_no_result(self, variant: V, seed: int, rate: float, why: str) -> None:
        """A run ``crashed`` or ``was interrupted``: the search of its pair stops, the others go on."""
        self._searches[variant, seed].tell_no_result(rate, why)

    def found(self) -> dict[V, dict[int, Found]]:
        """What is known by now, by variant and seed, of the searches that have begun."""
        by_variant: dict[V, dict[int, Found]] = {variant: {} for variant in self._leaders}
        for (variant, seed), search in self._searches.items():
            by_variant[variant][seed] = search.found()
        return by_variant

    def _begin_those_whose_leader_ended(self) -> None:
        for pair in list(self._waiting):
            leader = self._searches[self._leaders[pair[0]]]
            if leader.next_rate() is None:
                self._searches[pair] = RateSearch(self._grid, leader.found())
                self._waiting.remove(pair)
