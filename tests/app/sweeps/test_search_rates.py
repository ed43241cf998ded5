"""The grid of rates, the bisection on it, the searches of a sweep, and what they say over seeds."""

import math

import pytest
from scipy import stats
from tests.app.sweeps.searching import Losses, grid_of, searched, valley

from normlab.app.sweeps.bracket import bracket, next_to_bracket
from normlab.app.sweeps.found_in_words import found_in_words
from normlab.app.sweeps.golden import next_to_lowest
from normlab.app.sweeps.over_seeds import best_rate_over_seeds, stable_rate_over_seeds
from normlab.app.sweeps.rates import RateGrid
from normlab.app.sweeps.search import Found, RateSearch
from normlab.app.sweeps.searches import RateSearches
from normlab.core.errors import ConfigError

SIZE = 25
GRID = grid_of(SIZE)
STEP = math.log(10) / 8


def founds(*losses: Losses) -> list[Found]:
    return [searched(one)[0] for one in losses]


def test_rates_are_evenly_spaced_by_logarithm_and_can_be_typed() -> None:
    grid = RateGrid(lowest=1e-3, highest=1e-1, per_decade=4)
    assert grid.rates == (0.001, 0.001778, 0.003162, 0.005623, 0.01, 0.01778, 0.03162, 0.05623, 0.1)
    assert [grid.index[rate] for rate in grid.rates] == list(range(9))


def test_a_highest_rate_off_the_grid_bounds_it() -> None:
    assert RateGrid(lowest=1e-3, highest=9e-3, per_decade=2).rates == (0.001, 0.003162)
    assert RateGrid(lowest=1e-3, highest=1e-3, per_decade=2).rates == (0.001,)


def test_the_finest_grid_has_no_rate_twice() -> None:
    rates = RateGrid(lowest=1e-5, highest=1.0, per_decade=100).rates
    assert len(set(rates)) == len(rates) == 501 and list(rates) == sorted(rates)


def test_the_ends_of_a_grid_in_the_wrong_order_are_told_how_to_type() -> None:
    with pytest.raises(ConfigError, match=r"got 0\.001\. Type hydra\.sweeper\.lowest=0\.001 "):
        RateGrid(lowest=0.1, highest=0.001, per_decade=4)


@pytest.mark.parametrize("size", [1, 2, 9, 33])
def test_bisection_finds_every_boundary_from_every_start(size: int) -> None:
    """Without a start in ceil(log2(n + 1)) runs, from one d places away in 2 + 2 log2(d + 1)."""
    for boundary in range(size + 1):
        for start in (None, *range(size)):
            is_alive: dict[int, bool] = {}
            while (index := next_to_bracket(is_alive, size, start)) is not None:
                assert index not in is_alive
                is_alive[index] = index < boundary
            assert bracket(is_alive, size) == (boundary - 1, boundary)
            distance = 0 if start is None else abs(boundary - 1 - start)
            runs = math.ceil(math.log2(size + 1)) if start is None else 2 + 2 * math.log2(distance + 1)
            assert len(is_alive) <= runs


def test_the_ends_of_the_grid_are_tried_before_a_minimum_beside_them_is_believed() -> None:
    assert next_to_lowest({7: math.inf, 8: 1.0}, 10, None) == 9
    assert next_to_lowest({1: 1.0, 2: 2.0}, 10, None) == 0
    assert next_to_lowest({0: 2.0, 1: 1.0, 2: 1.0}, 10, None) is None
    assert next_to_lowest({0: math.inf}, 10, 5) is None


def test_later_seeds_wait_for_the_first_and_begin_where_it_ended() -> None:
    """Every search gives the answer that it would give alone; followers like their leader take five runs at most."""
    pairs = [(name, seed) for seed in (0, 1, 2) for name in ("rmsnorm", "none")]
    losses = {"rmsnorm": valley(SIZE, 20, 12), "none": valley(SIZE, 9, 3)}
    searches = RateSearches(GRID, [*pairs, *pairs])
    seeds_seen: dict[str, list[int]] = {"rmsnorm": [], "none": []}
    while batch := searches.next_runs():
        assert len({(name, seed) for name, seed, _ in batch}) == len(batch)
        for name, seed, rate in batch:
            seeds_seen[name].append(seed)
            loss = losses[name][GRID.index[rate]]
            searches.tell(name, seed, rate, None if loss == math.inf else loss)
    for name, found in searches.found().items():
        num_first = seeds_seen[name].count(0)
        assert seeds_seen[name][:num_first] == [0] * num_first
        alone = searched(losses[name])[0]
        assert [(one.frontier.lr, one.best_lr) for one in found.values()] == [(alone.frontier.lr, alone.best_lr)] * 3
        assert found[0].num_runs == alone.num_runs and max(found[1].num_runs, found[2].num_runs) <= 5


def test_a_crash_of_the_first_seed_stops_no_other() -> None:
    searches = RateSearches(GRID, [("a", 0), ("a", 1)])
    [(name, seed, rate)] = searches.next_runs()
    searches.tell_no_result(name, seed, rate, "crashed")
    while batch := searches.next_runs():
        for name, seed, rate in batch:
            assert seed == 1
            searches.tell(name, seed, rate, 1.0)
    found = searches.found()["a"]
    assert (found[0].is_complete, found[1].is_complete) == (False, True)


def test_the_geometric_mean_comes_with_students_interval_and_what_the_grid_leaves_open() -> None:
    """Frontiers after places 10, 12 and 14: middles 10.5, 12.5, 14.5, s = 2; t(0.975; 2) = 4.303 in every table."""
    found = stable_rate_over_seeds(founds(*(valley(SIZE, last + 1, 5) for last in (10, 12, 14))), GRID)
    assert found is not None and found.value is not None and found.low is not None and found.high is not None
    half = 4.303 * 2 / math.sqrt(3) + 0.5
    assert found.value == pytest.approx(1e-4 * math.exp(12.5 * STEP), rel=1e-3)
    assert math.log(found.value / found.low) / STEP == pytest.approx(half, abs=2e-3)
    assert math.log(found.high / found.value) / STEP == pytest.approx(half, abs=2e-3)


def test_seeds_that_agree_leave_what_the_grid_leaves() -> None:
    """The true frontier lies between neighbours, the best rate between those of the best on the grid."""
    same = founds(*[valley(SIZE, 20, 12)] * 3)
    stable, best = stable_rate_over_seeds(same, GRID), best_rate_over_seeds(same, GRID)
    assert stable is not None and best is not None
    assert (stable.low, stable.high) == pytest.approx((GRID.rates[19], GRID.rates[20]), rel=1e-3)
    assert (best.low, best.value, best.high) == pytest.approx(GRID.rates[11:14], rel=1e-3)


def test_the_interval_holds_the_mean_of_most_sets_of_three_seeds() -> None:
    """Frontiers scattered log-normally, read off the grid: the interval is wrong about one time in twenty or less."""
    true, wrong = 12.3, 0
    scattered = stats.norm(loc=true, scale=1.5).rvs(size=(300, 3), random_state=0)
    by_place = [searched(valley(SIZE, num_alive, 0))[0] for num_alive in range(SIZE + 1)]
    for edges in scattered:
        found = stable_rate_over_seeds([by_place[math.floor(edge) + 1] for edge in edges], GRID)
        assert found is not None and found.low is not None and found.high is not None
        wrong += not found.low <= 1e-4 * math.exp(true * STEP) <= found.high
    assert wrong / 300 < 0.07


def test_one_seed_has_no_interval_and_none_no_rate() -> None:
    one = stable_rate_over_seeds(founds(valley(SIZE, 20, 12)), GRID)
    assert one is not None and one.value is not None and (one.low, one.high) == (None, None)
    assert stable_rate_over_seeds([], GRID) is None
    assert best_rate_over_seeds([RateSearch(GRID, None).found()], GRID) is None


def test_what_lies_beyond_the_grid_counts_in_a_median_and_in_no_mean() -> None:
    two_in_one_above = founds(valley(SIZE, 10, 5), valley(SIZE, 14, 5), valley(SIZE, SIZE, 5))
    found = stable_rate_over_seeds(two_in_one_above, GRID)
    assert found is not None and (found.num_below, found.num_above, found.low, found.high) == (0, 1, None, None)
    assert found.value == pytest.approx(1e-4 * math.exp(13.5 * STEP), rel=1e-3)
    assert found.text == "0.00487 (median of 3 seeds, 1 above the grid)"


def test_a_median_beyond_the_grid_is_no_number() -> None:
    most_die_everywhere = founds([math.inf] * SIZE, [math.inf] * SIZE, valley(SIZE, 20, 12))
    for found in (stable_rate_over_seeds(most_die_everywhere, GRID), best_rate_over_seeds(most_die_everywhere, GRID)):
        assert found is not None and (found.value, found.num_below) == (None, 2)
        assert found.text == "beyond the grid (median of 3 seeds, 2 below the grid)"
    both_ends = stable_rate_over_seeds(founds([math.inf] * SIZE, valley(SIZE, SIZE, 12)), GRID)
    assert both_ends is not None and (both_ends.value, both_ends.num_below, both_ends.num_above) == (None, 1, 1)


def test_a_best_rate_at_the_end_of_the_grid_is_no_number() -> None:
    found = best_rate_over_seeds(founds(valley(SIZE, SIZE, 24), valley(SIZE, SIZE, 23), valley(SIZE, SIZE, 0)), GRID)
    assert found is not None and (found.num_below, found.num_above) == (1, 1)
    assert found.value == pytest.approx(GRID.rates[23])


def test_the_end_is_said_with_runs_in_place_of_the_grid_and_what_is_in_doubt() -> None:
    stopped = RateSearch(GRID, None)
    stopped.tell_no_result(GRID.rates[12], "crashed")
    holed = list(valley(15, 10, 5))
    holed[6] = math.inf
    same = searched(valley(SIZE, 20, 12))[0]
    lines = found_in_words("none", {0: same, 1: same, 2: stopped.found()}, GRID)
    assert lines == [
        f"none: survives up to 0.0274 [0.0237, 0.0316] (2 seeds), is best at 0.00316 [0.00237, 0.00422] (2 seeds); "
        f"{2 * same.num_runs} runs in place of 75.",
        "none, seed 2: stopped: the run at 0.003162 crashed.",
    ]
    assert found_in_words("none", {4: searched(holed)[0]}, grid_of(15))[1] == (
        "none, seed 4: survival is not a matter of the rate alone: "
        "0.0004217 (0.0005623 kills, yet 0.0007499, 0.001334 survived)."
    )
