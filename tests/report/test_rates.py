"""Frontier, best rate and sensitivity on grids worked by hand."""

from itertools import product

import numpy as np
import pytest
from tests.report.made import INITIAL_LOSS, dead_run, made_run, made_sweep

from normlab.report.frontier import frontier, frontier_by_seed
from normlab.report.rate_grid import best_rate, sensitivities, sensitivity
from normlab.report.results import RunResult

RATES = [0.001, 0.01, 0.1]


def grid(losses_by_seed: dict[int, list[float | None]]) -> list[RunResult]:
    """A run for each loss; None is a death."""
    return [
        dead_run(5, lr=lr, seed=seed) if loss is None else made_run(lr=lr, seed=seed, final_val_loss=loss)
        for seed, losses in losses_by_seed.items()
        for lr, loss in zip(RATES, losses, strict=True)
    ]


def test_the_frontier_lies_below_the_first_rate_that_kills() -> None:
    runs = grid({0: [2, 2, None], 1: [2, None, None]})
    for together in (frontier(runs), frontier(runs[::-1])):
        assert (together.lr, together.next_dead) == (0.001, 0.01)
    assert {seed: found.lr for seed, found in frontier_by_seed(runs).items()} == {0: 0.01, 1: 0.001}


def test_a_frontier_beyond_the_grid_below_it_or_without_order_is_said_to_be_so() -> None:
    assert frontier(grid({0: [2, 2, 2]})).text == "0.1 (the largest tried)"
    assert frontier(grid({0: [None, None, None]})).text == "below 0.001, the smallest tried"
    assert frontier(grid({0: [2, None, 2]})).text == "0.001 (0.01 kills, yet 0.1 survived)"


def test_runs_without_a_result_say_nothing_of_the_frontier() -> None:
    runs = [made_run(lr=0.001), made_run(lr=0.01, outcome="interrupted"), made_run(lr=0.1, outcome=None)]
    assert frontier(runs).lr == 0.001
    assert frontier(runs[1:]).text == "no run has a result"


def test_the_best_rate_counts_a_death_as_nothing_learnt() -> None:
    runs = grid({0: [2.5, 2.2, 1.0], 1: [2.5, 2.2, None]})
    best = best_rate(runs)
    assert best is not None and (best.lr, best.edge) == (0.01, None)
    assert best.mean_loss == pytest.approx(2.2)


def test_the_best_rate_may_lie_at_an_edge() -> None:
    best = best_rate(grid({0: [2.0, 2.2, 2.5]}))
    assert best is not None and best.edge == "lowest" and best.left_out_loss is None


def test_a_rate_that_one_lucky_seed_has_finished_is_not_the_best_yet() -> None:
    runs = [made_run(lr=0.01, seed=seed, final_val_loss=2.2) for seed in range(3)]
    best = best_rate([*runs, made_run(lr=0.1, seed=0, final_val_loss=1.0), made_run(lr=0.1, seed=1, outcome=None)])
    assert best is not None and best.lr == 0.01


def test_the_left_out_loss_chooses_without_the_seed_it_reports() -> None:
    """Without seed 0 the rate 0.001 is best (1.0 against 2.0), at which seed 0 has 4; without seed 1 it is 0.01."""
    best = best_rate(grid({0: [4.0, 2.0, 5.0], 1: [1.0, 2.0, 5.0]}))
    assert best is not None and best.lr == 0.01
    assert best.left_out_loss == pytest.approx((4.0 + 2.0) / 2)


def test_sensitivity_is_the_mean_excess_over_the_best() -> None:
    """Wortsman et al. 2023: the mean of min(loss, loss at initialisation), less the lowest."""
    found = sensitivity(grid({0: [3.0, 2.0, None]}), RATES)
    assert found is not None and found.interval is None
    assert found.value == pytest.approx((3.0 + 2.0 + INITIAL_LOSS) / 3 - 2.0)


def test_a_loss_above_that_at_initialisation_counts_as_the_latter() -> None:
    found = sensitivity(grid({0: [3.0, 2.0, 50.0]}), RATES)
    assert found is not None and found.value == pytest.approx((3.0 + 2.0 + INITIAL_LOSS) / 3 - 2.0)


def test_the_bootstrap_agrees_with_all_resamples_of_four_seeds() -> None:
    """4 ** 4 resamples can be listed: their percentiles are what the random ones estimate."""
    rows = {0: [3.0, 2.0, 4.0], 1: [3.3, 2.1, 5.5], 2: [2.8, 2.6, 3.1], 3: [3.9, 2.2, None]}
    table = np.array([[INITIAL_LOSS if loss is None else loss for loss in row] for row in rows.values()])
    listed = []
    for seeds in product(range(4), repeat=4):
        means = table[list(seeds)].mean(axis=0)
        listed.append(means.mean() - means.min())
    found = sensitivity(grid(rows), RATES)
    assert found is not None and found.interval is not None
    assert found.interval == pytest.approx(np.percentile(listed, [2.5, 97.5]), abs=0.03)
    assert found == sensitivity(grid(rows), RATES)


def test_a_seed_without_all_rates_is_left_out_of_the_sensitivity() -> None:
    runs = [*grid({0: [3.0, 2.0, 4.0]}), made_run(lr=0.001, seed=1), made_run(lr=0.01, seed=1, outcome="crashed")]
    found = sensitivity(runs, RATES)
    assert found is not None and found.seeds == (0,)


def test_variants_are_compared_on_the_rates_that_all_of_them_were_tried_at() -> None:
    wide = [made_run(choices={"norm": "a"}, lr=lr, final_val_loss=2 + lr) for lr in (*RATES, 1.0)]
    narrow = [made_run(choices={"norm": "b"}, lr=lr, final_val_loss=2 + lr) for lr in RATES]
    found = sensitivities(made_sweep([*wide, *narrow]))
    assert [one.rates for one in found.values() if one] == [tuple(RATES)] * 2
