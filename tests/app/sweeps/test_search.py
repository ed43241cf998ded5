"""The search for rates against the whole grid, for survival and losses by every rule that may come up."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.app.sweeps.searching import Losses, any_behaviour, grid_of, searched, tell, valley, well_behaved
from tests.report.made import dead_run, made_run

from normlab.app.sweeps.search import Found, RateSearch
from normlab.report.frontier import Frontier, frontier

GOLDEN_RATIO = (1 + math.sqrt(5)) / 2
INF = math.inf


def by_brute_force(losses: Losses) -> tuple[float | None, float | None, float | None]:
    """The last rate before any death, the first dead one, and that of the lowest loss."""
    rates = grid_of(len(losses)).rates
    num_alive = losses.index(INF) if INF in losses else len(losses)
    best = min(range(num_alive), key=losses.__getitem__, default=None)
    return (
        rates[num_alive - 1] if num_alive else None,
        rates[num_alive] if num_alive < len(losses) else None,
        None if best is None else rates[best],
    )


def answer(found: Found) -> tuple[float | None, float | None, float | None]:
    return found.frontier.lr, found.frontier.next_dead, found.best_lr


def as_a_report_has_it(losses: Losses, tried: list[float]) -> Frontier:
    """By the rule for grids, from the same runs."""
    told = {rate: losses[grid_of(len(losses)).index[rate]] for rate in tried}
    return frontier(
        [dead_run(5, lr=rate) if loss == INF else made_run(lr=rate, final_val_loss=loss) for rate, loss in told.items()]
    )


@given(well_behaved())
def test_the_answer_is_that_of_the_whole_grid(losses: Losses) -> None:
    assert answer(searched(losses)[0]) == by_brute_force(losses)


def test_the_answer_is_that_of_the_whole_grid_wherever_survival_ends_and_the_minimum_lies() -> None:
    for size in (1, 2, 3, 8, 25):
        for num_alive in range(size + 1):
            for minimum in range(max(num_alive, 1)):
                losses = valley(size, num_alive, minimum)
                assert answer(searched(losses)[0]) == by_brute_force(losses)


@given(well_behaved())
def test_it_takes_logarithmically_many_runs(losses: Losses) -> None:
    """At most ceil(log2(n + 1)) for survival and ceil(log_phi(n)) for the loss, and never more than the grid."""
    size = len(losses)
    bound = math.ceil(math.log2(size + 1)) + math.ceil(math.log(size, GOLDEN_RATIO))
    found, tried = searched(losses)
    assert found.num_runs == len(tried) <= min(bound, size) and found.num_grid_runs == size


@given(st.data())
def test_a_start_changes_the_number_of_runs_and_never_the_answer(data: st.DataObject) -> None:
    losses = data.draw(well_behaved())
    start, _ = searched(data.draw(well_behaved(size=len(losses))))
    assert answer(searched(losses, start)[0]) == by_brute_force(losses)


@given(well_behaved())
def test_what_is_like_the_start_takes_five_runs_at_most(losses: Losses) -> None:
    """Both sides of where survival ends, the best rate and its neighbours."""
    assert searched(losses, searched(losses)[0])[0].num_runs <= 5


def test_a_start_a_few_places_off_saves_runs_on_a_long_grid() -> None:
    size = 65
    for shift in (-2, -1, 1, 2):
        start, _ = searched(valley(size, 40, 30))
        cold = searched(valley(size, 40 + shift, 30 + shift))[0].num_runs
        assert searched(valley(size, 40 + shift, 30 + shift), start)[0].num_runs < cold


@given(any_behaviour, st.data())
def test_whatever_runs_do_it_ends_and_says_what_it_saw(losses: Losses, data: st.DataObject) -> None:
    """The bracket is closed, the best rate the lowest of all tried and of its neighbours, the frontier a report's."""
    start = searched(data.draw(st.lists(st.sampled_from([1.0, INF]), min_size=len(losses), max_size=len(losses))))[0]
    grid = grid_of(len(losses))
    for found, tried in (searched(losses), searched(losses, start)):
        assert found.is_complete and found.remark is None and len(tried) == found.num_runs
        assert found.frontier == as_a_report_has_it(losses, tried)
        last_alive = -1 if found.frontier.lr is None else grid.index[found.frontier.lr]
        first_dead = len(losses) if found.frontier.next_dead is None else grid.index[found.frontier.next_dead]
        assert first_dead == last_alive + 1
        told = {grid.index[rate]: losses[grid.index[rate]] for rate in tried}
        if found.best_lr is None:
            assert set(told.values()) == {INF}
        else:
            best = grid.index[found.best_lr]
            assert found.best_loss == losses[best] == min(told.values())
            assert {best - 1, best + 1} & set(range(len(losses))) <= set(told)


@given(any_behaviour, any_behaviour, st.data())
def test_an_interrupted_search_goes_on_as_it_would_have(losses: Losses, other: Losses, data: st.DataObject) -> None:
    """At every point: told what there is, in any order, a new search asks for what the first one asked for next."""
    size = len(losses)
    start = data.draw(st.sampled_from([None, searched([*other, *[INF] * size][:size])[0]]))
    _, tried = searched(losses, start)
    num_known = data.draw(st.integers(0, len(tried)))
    again = RateSearch(grid_of(size), start)
    for rate in data.draw(st.permutations(tried[:num_known])):
        tell(again, rate, losses)
        tell(again, rate, losses)
    asked = []
    while (rate := again.next_rate()) is not None:
        assert again.next_rate() == rate
        asked.append(rate)
        tell(again, rate, losses)
    assert asked == tried[num_known:]


@given(st.data())
def test_results_that_were_not_asked_for_are_made_use_of(data: st.DataObject) -> None:
    """Those of another sweep with rates on the grid, whichever they are."""
    losses = data.draw(well_behaved())
    start = data.draw(st.sampled_from([None, searched([INF] * len(losses))[0], searched([1.0] * len(losses))[0]]))
    search, rates = RateSearch(grid_of(len(losses)), start), grid_of(len(losses)).rates
    known = data.draw(st.sets(st.sampled_from(rates)))
    for rate in known:
        tell(search, rate, losses)
    while (rate := search.next_rate()) is not None:
        assert rate not in known
        tell(search, rate, losses)
    assert answer(search.found()) == by_brute_force(losses)


def test_all_alive_is_at_least_the_largest_rate() -> None:
    found, _ = searched(valley(25, 25, 10))
    assert (found.frontier.lr, found.frontier.next_dead) == (grid_of(25).rates[-1], None)
    assert found.frontier.text == "0.1 (the largest tried)"


def test_all_dead_is_below_the_smallest_rate() -> None:
    found, tried = searched([INF] * 25)
    assert (found.frontier.lr, found.frontier.next_dead, found.best_lr, found.best_loss) == (None, 1e-4, None, None)
    assert len(tried) <= 5 and found.edge is None


def test_the_smallest_rate_is_tried_before_survival_is_said_to_end_below_it() -> None:
    found, _ = searched([1.0] + [INF] * 24)
    assert (found.frontier.lr, found.best_lr, found.edge) == (1e-4, 1e-4, "lowest")


def test_a_best_rate_at_the_end_of_the_grid_is_marked() -> None:
    assert searched(valley(25, 25, 0))[0].edge == "lowest"
    assert searched(valley(25, 25, 24))[0].edge == "highest"
    assert searched(valley(25, 20, 19))[0].edge is None


def test_of_equal_losses_the_smallest_rate_is_best() -> None:
    """A plateau at the minimum, and nothing but a plateau."""
    rates = grid_of(25).rates
    assert searched([abs(k - 12) // 3 + 1.0 for k in range(25)])[0].best_lr == rates[10]
    assert searched([1.0] * 25)[0].best_lr == rates[0]


def test_a_death_among_living_rates_moves_the_frontier_below_it() -> None:
    """On 15 places bisection tries 7, 11, 9 and 10; the search for the minimum at 4 then meets a death at 6."""
    losses = list(valley(15, 10, 5))
    losses[6] = INF
    found, tried = searched(losses)
    rates = grid_of(15).rates
    assert rates[6] in tried
    assert (found.frontier.lr, found.frontier.next_dead) == (rates[5], rates[6])
    assert found.frontier.survived_beyond == (rates[7], rates[9])
    assert found.best_lr == rates[5]


def test_a_run_without_a_result_stops_the_search_and_is_asked_for_again_by_a_new_one() -> None:
    losses = valley(25, 20, 10)
    search = RateSearch(grid_of(25), None)
    first = search.next_rate()
    assert first is not None
    tell(search, first, losses)
    second = search.next_rate()
    assert second is not None
    search.tell_no_result(second, "crashed")
    found = search.found()
    assert search.next_rate() is None and not found.is_complete
    assert found.remark == f"stopped: the run at {second:g} crashed" and found.num_runs == 1
    again = RateSearch(grid_of(25), None)
    tell(again, first, losses)
    assert again.next_rate() == second


def test_what_a_stopped_search_found_is_no_start() -> None:
    search = RateSearch(grid_of(25), None)
    search.tell(grid_of(25).rates[3], 1.0)
    search.tell_no_result(grid_of(25).rates[4], "crashed")
    assert searched(valley(25, 20, 10), search.found())[1] == searched(valley(25, 20, 10))[1]


def test_what_cannot_be_a_result_is_refused() -> None:
    search = RateSearch(grid_of(25), None)
    with pytest.raises(ValueError, match=r"rate must be one of .*; got 0\.5"):
        search.tell(0.5, 1.0)
    with pytest.raises(ValueError, match="loss must be finite; got nan"):
        search.tell(1e-4, math.nan)
    search.tell(1e-4, 1.0)
    with pytest.raises(ValueError, match="a rate has one loss"):
        search.tell(1e-4, None)
