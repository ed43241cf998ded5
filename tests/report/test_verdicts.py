"""Claims are decided by the runs, or left open where these do not decide them."""

from pathlib import Path
from typing import Any

import pytest
from tests.report.made import dead_run, made_run, made_sweep, write_sweep

from normlab.core.records import encode_json
from normlab.report.criteria import check_criterion
from normlab.report.load import load_sweep
from normlab.report.results import RunResult, SweepResult
from normlab.report.verdicts import decide, verdicts

NONE, RMS = {"model/norm": "none"}, {"model/norm": "rmsnorm"}
DIES = {"kind": "runs", "where": NONE, "that": {"outcome": "dead"}, "at_least": 1.0, "min_seeds": 3}


def met(criterion: dict[str, Any], sweep: SweepResult) -> bool | None:
    check_criterion(criterion)
    return decide(criterion, sweep)[0]


def with_statistics(folder: Path, run: RunResult, tag: str, values: list[float]) -> RunResult:
    """The run in a folder in which the steps have these readings."""
    fields = {**vars(run), "folder": folder / run.name}
    fields["folder"].mkdir()
    lines = [encode_json({"step": step, tag: value}) + "\n" for step, value in enumerate(values, start=1)]
    (fields["folder"] / "metrics.jsonl").write_text("".join(lines))
    return RunResult(**fields)


def losses(choices: dict[str, str], values: list[float], **fields: Any) -> list[RunResult]:
    return [made_run(choices=choices, seed=seed, final_val_loss=x, **fields) for seed, x in enumerate(values)]


# the share of runs


def test_a_share_is_met_missed_or_open() -> None:
    dead = [dead_run(5, choices=NONE, seed=seed) for seed in range(3)]
    alive, running = made_run(choices=NONE, seed=3), made_run(choices=NONE, seed=4, outcome=None)
    assert met(DIES, made_sweep(dead)) is True
    assert met(DIES, made_sweep([*dead, alive])) is False
    assert met(DIES, made_sweep([*dead, running])) is None
    assert met(DIES, made_sweep([*dead, alive, running])) is False
    assert met({**DIES, "at_least": 0.5}, made_sweep([*dead, running])) is True


def test_a_job_that_has_not_begun_is_waited_for() -> None:
    dead = [dead_run(5, choices=NONE, seed=seed) for seed in range(3)]
    waiting = made_run(choices=NONE, seed=3, outcome=None, steps=0)
    assert met(DIES, made_sweep(dead, not_begun=[waiting])) is None


def test_too_few_seeds_decide_nothing() -> None:
    sweep = made_sweep([dead_run(5, choices=NONE, lr=lr, seed=seed) for lr in (0.1, 0.2, 0.3) for seed in (0, 1)])
    found, sentence = decide(DIES, sweep)
    assert found is None and sentence.endswith("That is of 2 seeds; 3 are required.")


def test_runs_known_under_two_names_count_once() -> None:
    run = dead_run(5, choices={**NONE, "model/placement": "pre"})
    twin = RunResult(**{**vars(run), "choices": {**NONE, "model/placement": "post"}})
    _, sentence = decide(DIES, made_sweep([run, twin]))
    assert sentence.startswith("Of 1 runs of norm=none, 1 are dead; claimed: at least 100%")


def test_when_and_of_what_a_run_died() -> None:
    sweep = made_sweep([dead_run(steps, choices=NONE, seed=steps) for steps in (3, 5, 8)])
    that = {"outcome": "nonfinite", "cause_kind": ["exp_overflow", "zero_over_zero"], "cause_site": "*softmax"}
    assert met({**DIES, "that": {**that, "within_steps": 8}}, sweep) is True
    assert met({**DIES, "that": {**that, "within_steps": 7}}, sweep) is False
    assert met({**DIES, "that": {**that, "after_steps": 3}}, sweep) is False
    assert met({**DIES, "that": {"cause_layer": 2}}, sweep) is False


def test_a_death_of_unknown_cause_leaves_a_claim_about_causes_open() -> None:
    runs = [dead_run(5, choices=NONE, seed=0), *[dead_run(5, choices=NONE, seed=seed, cause=None) for seed in (1, 2)]]
    criterion = {**DIES, "that": {"cause_kind": "exp_overflow"}, "min_seeds": 1}
    assert met(criterion, made_sweep(runs)) is None
    assert met(criterion, made_sweep([*runs, dead_run(9, choices=NONE, seed=3, outcome="diverged")])) is False


def test_every_run_whose_logits_grew_too_large_died(tmp_path: Path) -> None:
    """Wortsman et al. 2023, section 3.1.1: no run whose largest attention logit passed 1e4 was stable."""
    tag = "attention_logit_max/layer_0"
    runs = [with_statistics(tmp_path, dead_run(2, choices=NONE, seed=seed), tag, [10, 2e4]) for seed in range(3)]
    runs.append(with_statistics(tmp_path, made_run(choices=NONE, seed=3), tag, [10, 500.0]))
    large = {"statistic": {"tag": "attention_logit_max/*", "over": "max", "above": 1e4}}
    assert met({**DIES, "among": large}, made_sweep(runs)) is True
    assert met(DIES, made_sweep(runs)) is False
    runs.append(with_statistics(tmp_path, made_run(choices=NONE, seed=4), tag, [3e4, 500.0]))
    assert met({**DIES, "among": large}, made_sweep(runs)) is False


def test_readings_are_relative_to_the_run_of_the_same_seed_and_leave_nan_out(tmp_path: Path) -> None:
    tag = "activation_absmax/ffn/layer_0"
    runs = []
    for seed in range(3):
        runs.append(with_statistics(tmp_path, made_run(choices=RMS, seed=seed), tag, [1.0 + seed, 2.0]))
        runs.append(
            with_statistics(tmp_path, dead_run(2, choices=NONE, seed=seed), tag, [50.0 * (seed + 1), float("nan")])
        )
    statistic = {"tag": "activation_absmax/ffn/*", "over": "first", "relative_to": RMS}
    assert met({**DIES, "that": {"statistic": {**statistic, "above": 49}}}, made_sweep(runs)) is True
    assert met({**DIES, "that": {"statistic": {**statistic, "above": 49, "below": 51}}}, made_sweep(runs)) is True
    late = {**statistic, "over": "max", "from_step": 2, "above": 1}
    assert met({**DIES, "that": {"statistic": late}}, made_sweep(runs)) is None


def test_an_infinite_reading_is_one(tmp_path: Path) -> None:
    tag = "attention_logit_max/layer_0"
    runs = [
        with_statistics(tmp_path, dead_run(2, choices=NONE, seed=seed), tag, [1.0, float("inf")]) for seed in range(3)
    ]
    large = {"statistic": {"tag": "attention_logit_max/*", "over": "last", "above": 1e30}}
    assert met({**DIES, "that": large}, made_sweep(runs)) is True


# rates


def test_a_rate_may_be_the_best_of_another_variant_or_below_it() -> None:
    runs = [
        made_run(choices=RMS, lr=lr, seed=seed, final_val_loss=loss)
        for lr, loss in ((0.001, 3.0), (0.01, 2.0), (0.1, 2.5))
        for seed in range(3)
    ]
    runs += [dead_run(5, choices=NONE, lr=lr, seed=seed) for lr in (0.01, 0.1) for seed in range(3)]
    runs += [made_run(choices=NONE, lr=0.001, seed=seed) for seed in range(3)]
    at_best = {**DIES, "where": {**NONE, "lr": {"best_of": RMS}}}
    below = {**DIES, "where": {**NONE, "lr": {"below_best_of": RMS}}}
    assert met(at_best, made_sweep(runs)) is True
    assert met(below, made_sweep(runs)) is False
    lower = [dead_run(5, choices={"model/norm": "l2"}, lr=0.001, seed=seed) for seed in range(3)]
    lower += [made_run(choices={"model/norm": "l2"}, lr=0.01, seed=seed) for seed in range(3)]
    where = {"model/norm": "l2", "lr": {"below_best_of": RMS}}
    assert met({**DIES, "where": where}, made_sweep([*runs, *lower])) is True
    running = made_run(choices=RMS, lr=0.1, seed=3, outcome=None)
    found, sentence = decide(at_best, made_sweep([*runs, running]))
    assert found is None and "best rate of norm=rmsnorm is not known" in sentence


def test_a_choice_that_was_not_varied_is_known_from_the_overrides() -> None:
    facts = {"overrides": {"attention/softmax": "naive", "attention.clamp.limit": "30.0"}}
    sweep = made_sweep([dead_run(5, choices=NONE, seed=seed, facts=facts) for seed in range(3)])
    assert met({**DIES, "where": {**NONE, "attention/softmax": "naive", "attention.clamp.limit": 30}}, sweep) is True
    found, sentence = decide({**DIES, "where": {"attention/softmax": "stable"}}, sweep)
    assert (found, sentence) == (None, "The sweep has no run of softmax=stable.")


# losses


def test_a_difference_is_judged_by_its_interval() -> None:
    sweep = made_sweep([*losses(RMS, [2.00, 2.10, 2.20]), *losses(NONE, [2.30, 2.41, 2.49])])
    claim = {"kind": "loss", "of": NONE, "than": RMS, "measure": "final", "min_seeds": 3}
    assert met({**claim, "above": 0.2}, sweep) is True
    assert met({**claim, "below": 0.2}, sweep) is False
    assert met({**claim, "above": 0.3}, sweep) is None
    assert met({**claim, "above": 0.1, "below": 0.2, "relative": True}, sweep) is True
    assert met({**claim, "above": 0.2, "min_seeds": 4}, sweep) is None


def test_survivors_alone_do_not_reproduce_a_loss() -> None:
    runs = losses(NONE, [2.00, 2.01, 2.02])
    claim = {"kind": "loss", "of": NONE, "measure": "final", "below": 2.5, "min_seeds": 3}
    assert met(claim, made_sweep(runs)) is True
    found, sentence = decide(claim, made_sweep([*runs, dead_run(5, choices=NONE, seed=3)]))
    assert found is None and "(1 runs died)" in sentence


def test_a_selection_of_two_variants_is_no_side_of_a_comparison() -> None:
    sweep = made_sweep([*losses(RMS, [2.0, 2.1]), *losses(NONE, [2.3, 2.4])])
    found, sentence = decide({"kind": "loss", "of": {}, "measure": "final", "below": 9, "min_seeds": 2}, sweep)
    assert found is None and "selects 2 variants" in sentence


# orders


def grid(choices: dict[str, str], dead_from: float, losses_at: dict[float, float]) -> list[RunResult]:
    return [
        dead_run(5, choices=choices, lr=lr, seed=seed)
        if lr >= dead_from
        else made_run(choices=choices, lr=lr, seed=seed, final_val_loss=loss)
        for lr, loss in losses_at.items()
        for seed in range(3)
    ]


def test_frontiers_and_sensitivities_are_ordered_seed_by_seed() -> None:
    """Wortsman et al. 2023: QK-norm raises the largest usable rate and lowers the sensitivity."""
    at = {0.001: 2.5, 0.01: 2.0, 0.1: 2.1}
    sweep = made_sweep([*grid(NONE, 0.01, at), *grid(RMS, 0.1, at), *grid({"model/norm": "qk"}, 1.0, at)])
    names = [NONE, RMS, {"model/norm": "qk"}]
    order = {"kind": "order", "quantity": "frontier", "ascending": names, "min_seeds": 3}
    assert met(order, sweep) is True
    assert met({**order, "ascending": names[::-1]}, sweep) is False
    assert met({**order, "quantity": "sensitivity", "ascending": names[::-1]}, sweep) is True
    assert met({**order, "quantity": "best_rate", "ascending": names[:2]}, sweep) is True
    assert met({**order, "quantity": "loss", "ascending": names[1:]}, sweep) is None
    assert met({**order, "min_seeds": 4}, sweep) is None


def test_frontiers_that_the_grid_does_not_tell_apart_are_open() -> None:
    at = {0.001: 2.5, 0.01: 2.0}
    sweep = made_sweep([*grid(NONE, 0.01, at), *grid(RMS, 0.01, at)])
    order = {"kind": "order", "quantity": "frontier", "ascending": [NONE, RMS], "min_seeds": 3}
    assert met(order, sweep) is None


def test_seeds_that_disagree_and_seeds_that_go_on_decide_no_order() -> None:
    order = {"kind": "order", "quantity": "loss", "ascending": [RMS, NONE], "min_seeds": 2}
    assert met(order, made_sweep([*losses(RMS, [2.0, 2.4]), *losses(NONE, [2.3, 2.3])])) is None
    at = {0.001: 2.5, 0.01: 2.0}
    runs = [*grid(NONE, 0.01, at), *grid(RMS, 1.0, at)]
    frontiers = {**order, "quantity": "frontier", "ascending": [NONE, RMS], "min_seeds": 3}
    assert met(frontiers, made_sweep(runs)) is True
    assert met(frontiers, made_sweep([*runs, made_run(choices=RMS, lr=0.1, seed=2, outcome=None)])) is None


def test_a_run_that_completed_early_may_have_died_later() -> None:
    alive = [made_run(choices=NONE, seed=seed, steps=40) for seed in range(3)]
    dead = [dead_run(50, choices=RMS, seed=seed) for seed in range(3)]
    order = {"kind": "order", "quantity": "death_step", "ascending": [RMS, NONE], "min_seeds": 3}
    assert met(order, made_sweep([*alive, *dead])) is None


def test_a_death_comes_later_also_where_one_never_came() -> None:
    later = [dead_run(50, choices=RMS, seed=0), dead_run(60, choices=RMS, seed=1), made_run(choices=RMS, seed=2)]
    sweep = made_sweep([*[dead_run(5, choices=NONE, seed=seed) for seed in range(3)], *later])
    order = {"kind": "order", "quantity": "death_step", "ascending": [NONE, RMS], "min_seeds": 3}
    assert met(order, sweep) is True
    assert met({**order, "ascending": [RMS, NONE]}, sweep) is False


# together


def test_all_and_any_follow_from_their_parts() -> None:
    sweep = made_sweep([dead_run(5, choices=NONE, seed=seed) for seed in range(3)])
    true, false, unknown = DIES, {**DIES, "that": {"outcome": "alive"}}, {**DIES, "where": RMS}
    assert met({"kind": "all", "of": [true, true]}, sweep) is True
    assert met({"kind": "all", "of": [true, unknown]}, sweep) is None
    assert met({"kind": "all", "of": [false, unknown]}, sweep) is False
    assert met({"kind": "any", "of": [true, unknown]}, sweep) is True
    assert met({"kind": "any", "of": [false, unknown]}, sweep) is None


def test_the_verdict_on_a_recorded_claim(tmp_path: Path) -> None:
    (found,) = verdicts(load_sweep(write_sweep(tmp_path)))
    assert (found.id, found.decision) == ("dies", "reproduced")
    assert found.sentence == (
        "Of 6 runs of norm=none, clamp=none, lr above 0.005, 6 are dead, ended within 60 steps; claimed: at least "
        "100%; 6 died, at steps 12 to 20: an exponential overflowed in the attention softmax of layer 1."
    )


def test_a_criterion_that_cannot_be_read_says_why() -> None:
    (found,) = verdicts(made_sweep([made_run()], claims=[{"id": "x", "text": "?", "criterion": {"kind": "guess"}}]))
    assert found.decision == "inconclusive" and "criterion.kind must be one of" in found.sentence


UNIT = {"model/norm": "none", "init/scale": "unit", "attention/clamp": "none", "attention/softmax": "naive"}
NORMED = {**UNIT, "model/norm": "rmsnorm"}
SMALL = {**UNIT, "init/scale": "small"}
AT_BEST = {"lr": {"best_of": NORMED}}
SEED_CLAIMS = {
    "nan_soon": {**DIES, "where": {**UNIT, **AT_BEST}, "that": {"outcome": "nonfinite", "within_steps": 20}},
    "large_projection": {
        **DIES,
        "where": {**UNIT, **AT_BEST},
        "that": {"statistic": {"tag": "activation_absmax/ffn/*", "over": "first", "above": 10, "relative_to": NORMED}},
    },
    "small_init_delays": {
        "kind": "all",
        "of": [
            {
                **DIES,
                "where": {**SMALL, **AT_BEST},
                "that": {"statistic": {"tag": "activation_rms/ffn/*", "over": "max", "to_step": 10, "below": 10}},
            },
            {**DIES, "where": {**SMALL, **AT_BEST}, "that": {"outcome": "nonfinite", "after_steps": 20}},
            {
                "kind": "order",
                "quantity": "death_step",
                "ascending": [{**UNIT, **AT_BEST}, {**SMALL, **AT_BEST}],
                "min_seeds": 3,
            },
        ],
    },
    "lower_rate": {**DIES, "where": {**UNIT, "lr": {"below_best_of": NORMED}}},
    "softmax_overflows": {
        **DIES,
        "where": {**SMALL},
        "among": {"outcome": "dead"},
        "that": {
            "cause_kind": ["exp_overflow", "zero_over_zero"],
            "cause_site": "attention.attend.softmax",
            "statistic": {"tag": "attention_logit_max/*", "over": "max", "above": 88.7},
        },
    },
    "clamp_removes": {
        "kind": "runs",
        "where": {**SMALL, "attention/clamp": "hard"},
        "that": {"cause_site": "attention.attend.softmax"},
        "at_most": 0.0,
        "min_seeds": 3,
    },
    "both_stable": {**DIES, "where": {**SMALL, "attention/clamp": "hard", **AT_BEST}, "that": {"outcome": "alive"}},
}


def seed_sweep(folder: Path, is_true: bool) -> SweepResult:
    """Runs that are as the seed says, or else all alive with small activations."""
    story: dict[str, tuple[dict[str, str], int | None, float]] = {
        "normed": (NORMED, None, 1.0), "unit": (UNIT, 3, 50.0), "small": (SMALL, 40, 2.0),
        "both": ({**SMALL, "attention/clamp": "hard"}, None, 2.0),
    }  # fmt: skip
    runs = []
    for choices, dies_at, size in story.values():
        for lr in (0.001, 0.01):
            for seed in range(3):
                fields = {"choices": choices, "lr": lr, "seed": seed, "final_val_loss": 2.0 - lr}
                is_dead = is_true and dies_at is not None
                run = dead_run(dies_at or 0, **{**fields, "final_val_loss": None}) if is_dead else made_run(**fields)
                run = RunResult(**{**vars(run), "folder": folder / run.name})
                run.folder.mkdir(parents=True)
                record = {
                    "step": 1, "activation_absmax/ffn/layer_0": size if is_true else 1.0,
                    "activation_rms/ffn/layer_0": size if is_true else 1.0,
                    "attention_logit_max/layer_0": 89.0 if is_dead else 30.0,
                }  # fmt: skip
                (run.folder / "metrics.jsonl").write_text(encode_json(record) + "\n")
                runs.append(run)
    return made_sweep(runs)


@pytest.mark.parametrize("name", SEED_CLAIMS)
def test_the_seven_claims_of_the_seed_can_be_written_and_follow_the_runs(tmp_path: Path, name: str) -> None:
    """Where nothing dies nothing is shown of causes, and the clamp and both fixes are as claimed."""
    assert met(SEED_CLAIMS[name], seed_sweep(tmp_path / "true", True)) is True
    otherwise = {"softmax_overflows": None, "clamp_removes": True, "both_stable": True}.get(name, False)
    assert met(SEED_CLAIMS[name], seed_sweep(tmp_path / "false", False)) is otherwise
