"""Runs made up for tests of the search: whether a rate lives, and its loss, by formula instead of by training."""

import math
from collections.abc import Sequence

from hypothesis import strategies as st

from normlab.app.sweeps.rates import RateGrid
from normlab.app.sweeps.search import Found, RateSearch

Losses = Sequence[float]
"""By place on the grid, inf for a death."""


def grid_of(size: int) -> RateGrid:
    """From 1e-4 up, eight rates a decade."""
    return RateGrid(lowest=1e-4, highest=1e-4 * 10 ** ((size - 1) / 8), per_decade=8)


def tell(search: RateSearch, rate: float, losses: Losses) -> None:
    """The result of the run at a rate."""
    loss = losses[grid_of(len(losses)).index[rate]]
    search.tell(rate, None if loss == math.inf else loss)


def searched(losses: Losses, start: Found | None = None) -> tuple[Found, list[float]]:
    """What a search ends with, and the rates that it tried, in order; it fails if it tries one twice."""
    search, tried = RateSearch(grid_of(len(losses)), start), []
    while (rate := search.next_rate()) is not None:
        assert rate not in tried
        tried.append(rate)
        tell(search, rate, losses)
    return search.found(), tried


def valley(size: int, num_alive: int, minimum: int) -> Losses:
    """|k - minimum|, and deaths from ``num_alive`` on."""
    return [float(abs(k - minimum)) if k < num_alive else math.inf for k in range(size)]


@st.composite
def well_behaved(draw: st.DrawFn, size: int | None = None) -> Losses:
    """Survival up to some rate, and losses that fall to one place and rise behind it, by steps of any size."""
    size = draw(st.integers(1, 70)) if size is None else size
    num_alive = draw(st.integers(0, size))
    minimum = draw(st.integers(0, max(num_alive - 1, 0)))
    steps = draw(st.lists(st.sampled_from([0.001, 0.1, 1.0, 50.0]), min_size=num_alive, max_size=num_alive))
    losses = [2 + math.fsum(steps[k:minimum] if k < minimum else steps[minimum + 1 : k + 1]) for k in range(num_alive)]
    return losses + [math.inf] * (size - num_alive)


any_behaviour = st.lists(st.one_of(st.sampled_from([1.0, 2.0, math.inf]), st.floats(0, 10)), min_size=1, max_size=40)
"""Noise, plateaus, rates that live above ones that die."""
