"""Intervals and paired tests against textbooks, R's documentation, and closed forms."""

import math

import numpy as np
import pytest
from tests.report.made import dead_run, made_run, made_sweep

from normlab.report.comparisons import comparisons
from normlab.report.intervals import loss_at_best_rate, mean_of
from normlab.report.losses import loss_of
from normlab.report.paired import holm, paired_difference
from normlab.report.results import RunResult


def runs_of(norm: str, losses: list[float | None], **fields: object) -> list[RunResult]:
    """One run a seed; None is a death."""
    choices = {"model/norm": norm}
    return [
        dead_run(5, choices=choices, seed=seed, **fields)
        if loss is None
        else made_run(choices=choices, seed=seed, final_val_loss=loss, best_val_loss=loss - 0.1, **fields)
        for seed, loss in enumerate(losses)
    ]


def test_the_interval_of_three_seeds_uses_two_degrees_of_freedom() -> None:
    """1, 2, 3: s = 1, t(0.975; 2) = 4.303 in every table, so 2 +- 4.303 / sqrt(3)."""
    found = mean_of([1.0, 2.0, 3.0])
    assert found is not None and found.low is not None and found.high is not None
    assert (found.value, found.num_seeds) == (2.0, 3)
    assert found.high - 2 == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)
    assert 2 - found.low == pytest.approx(4.303 / math.sqrt(3), abs=1e-3)


def test_one_seed_has_no_interval_and_none_no_mean() -> None:
    one = mean_of([1.5])
    assert one is not None and one.low is None and one.high is None
    assert mean_of([]) is None


def test_the_paired_t_is_students_of_1908() -> None:
    """Student's sleep data, drug 2 less drug 1 on ten patients: t = 4.0621, p = 0.002833, interval 0.70 to 2.46."""
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired_difference(dict(enumerate(second)), dict(enumerate(first)))
    assert found.p == pytest.approx(0.002833, abs=1e-6)
    assert found.mean is not None
    assert (found.mean.value, found.mean.low, found.mean.high) == pytest.approx((1.58, 0.7001142, 2.4598858), abs=1e-6)


def test_only_shared_seeds_are_compared() -> None:
    found = paired_difference({0: 2.0, 2: 3.0}, {1: 9.0, 2: 2.5})
    assert (dict(found.by_seed), found.p) == ({2: 0.5}, None)


def test_equal_differences_prove_or_disprove_without_a_division_by_zero() -> None:
    assert paired_difference({0: 2.0, 1: 3.0}, {0: 2.0, 1: 3.0}).p == 1.0
    assert paired_difference({0: 2.5, 1: 3.5}, {0: 2.0, 1: 3.0}).p == 0.0


def test_holms_adjustment_is_that_of_r() -> None:
    """p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm"), in another order, with one untested among them."""
    assert holm([0.05, 0.01, None, 0.03, 0.02, 0.04]) == pytest.approx([0.09, 0.05, None, 0.09, 0.08, 0.09])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_no_false_finding_in_most_families_of_true_nulls() -> None:
    """Twelve variants like the baseline, three seeds: the share of sweeps with any finding stays near the bound."""
    false = 0
    for trial in range(200):
        noise = np.random.default_rng(trial).normal(size=(13, 3))
        differences = [paired_difference(dict(enumerate(row)), dict(enumerate(noise[0]))) for row in noise[1:]]
        false += any(p < 0.05 for p in holm([found.p for found in differences]) if p is not None)
    assert false / 200 < 0.1


def test_the_loss_at_the_best_rate_comes_in_nats_and_bits() -> None:
    runs = [*runs_of("a", [2.0, 2.2], lr=0.01), *runs_of("a", [3.0, 3.0], lr=0.1)]
    found = loss_at_best_rate(runs)
    assert found is not None and found.final is not None and found.best is not None
    assert (found.rate.lr, found.rate.edge) == (0.01, "lowest")
    assert (found.final.value, found.best.value) == pytest.approx((2.1, 2.0))
    assert found.final_bits_per_byte is not None
    assert found.final_bits_per_byte.value == pytest.approx(2.1 / math.log(2) / 3.0)


def test_bits_per_byte_are_not_guessed() -> None:
    found = loss_at_best_rate(runs_of("a", [2.0, 2.2], bytes_per_token=None))
    assert found is not None and found.final is not None and found.final_bits_per_byte is None


def test_bits_per_byte_of_some_runs_alone_are_not_those_of_the_variant() -> None:
    runs = [*runs_of("a", [2.0, 2.2]), made_run(choices={"model/norm": "a"}, seed=2, bytes_per_token=None)]
    found = loss_at_best_rate(runs)
    assert found is not None and found.final is not None
    assert (found.final.num_seeds, found.final_bits_per_byte) == (3, None)


def test_a_run_that_left_for_good_has_no_final_loss_but_a_best_checkpoint() -> None:
    run = made_run(outcome="diverged", final_val_loss=9.0, best_val_loss=2.5)
    assert (loss_of(run, "final"), loss_of(run, "best"), loss_of(made_run(outcome=None), "best")) == (None, 2.5, None)


def test_a_variant_is_compared_in_words_that_say_what_was_shown() -> None:
    runs = [
        *runs_of("base", [2.00, 2.10, 2.20]),
        *runs_of("worse", [2.30, 2.41, 2.49]),
        *runs_of("alike", [2.02, 2.07, 2.21]),
        *runs_of("mortal", [2.00, 2.10, None]),
        *runs_of("lost", [None, None, None]),
    ]
    worse, alike, mortal, lost = comparisons(made_sweep(runs, baseline={"model/norm": "base"}), "final")
    assert worse.finding == "higher" and worse.text.startswith("Higher: difference +0.3000 [")
    assert worse.difference.p is not None and worse.p_adjusted == pytest.approx(3 * worse.difference.p)
    assert alike.finding == "not distinguishable"
    assert mortal.finding == "not distinguishable"
    assert mortal.text.endswith("Of this variant 2 of 3 runs have such a loss; 1 died.")
    assert lost.finding == "not testable" and "3 died" in lost.text


def test_choices_that_build_the_same_model_are_one_set_of_runs_and_tested_once() -> None:
    base, other = runs_of("base", [2.0, 2.1, 2.2]), runs_of("other", [2.3, 2.5, 2.4])
    again = [made_run(**{**vars(run), "choices": {"model/norm": "again"}}) for run in base]
    twin = [made_run(**{**vars(run), "choices": {"model/norm": "twin"}}) for run in other]
    found = comparisons(made_sweep([*base, *again, *other, *twin]), "final")
    assert found[0].finding == "the same runs"
    assert found[1].p_adjusted == found[1].difference.p == found[2].p_adjusted


def test_one_shared_seed_is_not_testable() -> None:
    (found,) = comparisons(made_sweep([*runs_of("base", [2.0]), *runs_of("other", [2.5])]), "best")
    assert (found.finding, found.p_adjusted) == ("not testable", None)
    assert "one shared seed, difference +0.5000" in found.text
