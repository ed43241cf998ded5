"""What a sweep found in a few sentences, sets of variants named in few words."""

from pathlib import Path

from tests.report.made import dead_run, made_run, made_sweep

from normlab.report.in_short import in_short
from normlab.report.naming import together
from normlab.report.number_words import difference_in_words
from normlab.report.paired import paired_difference
from normlab.report.results import RunResult

NORMS, CLAMPS = ("rmsnorm", "none"), ("none", "hard")
VARIANTS = [(("model/norm", norm), ("attention/clamp", clamp)) for norm in NORMS for clamp in CLAMPS]


def runs_at(rates: tuple[float, ...], dies_at: float, folder: Path, **choices: str) -> list[RunResult]:
    """One seed of a variant that lives below a rate."""
    chosen = {f"model/{key}": value for key, value in choices.items()}
    made = []
    for lr in rates:
        fields = {"lr": lr, "choices": chosen, "folder": folder / f"{lr}{choices}"}
        made.append(dead_run(5, **fields) if lr >= dies_at else made_run(**fields))
    return made


def test_variants_together_are_named_by_what_they_share_and_others_do_not() -> None:
    assert together(VARIANTS, VARIANTS) == "all variants"
    assert together(VARIANTS[1:], VARIANTS[1:], "all other variants") == "all other variants"
    assert together(VARIANTS[:3], VARIANTS) == "all variants but norm=none, clamp=hard"
    assert together(VARIANTS[:2], VARIANTS) == "all with norm=rmsnorm"
    placed = [(*variant, ("model/placement", place)) for variant in VARIANTS for place in ("pre", "post")]
    assert together(placed[:2], placed) == "all with norm=rmsnorm, clamp=none"
    assert together(VARIANTS[1:3], VARIANTS) == "norm=rmsnorm, clamp=hard; norm=none, clamp=none"
    assert together(VARIANTS[:1], VARIANTS) == "norm=rmsnorm, clamp=none"
    assert together(VARIANTS[:1], VARIANTS[:1]) == "norm=rmsnorm, clamp=none"


def test_how_far_each_variant_survives_is_said_from_the_smallest_rate_up(tmp_path: Path) -> None:
    rates = (0.001, 0.01, 0.1)
    bounds = {"rmsnorm": 1.0, "none": 0.1, "dyt": 0.1, "derf": 0.0001}
    runs = [run for norm, bound in bounds.items() for run in runs_at(rates, bound, tmp_path, norm=norm)]
    said = [line for line in in_short(made_sweep(runs)) if line.startswith("Largest stable")]
    assert said == [
        "Largest stable learning rate below 0.001, the smallest tried: norm=derf.",
        "Largest stable learning rate 0.01 (0.1 kills): norm=none; norm=dyt.",
        "Largest stable learning rate 0.1 (the largest tried): norm=rmsnorm.",
    ]


def test_one_variant_is_compared_with_none(tmp_path: Path) -> None:
    said = in_short(made_sweep(runs_at((0.01, 0.1), 0.1, tmp_path)))
    assert said == [
        "All 2 runs have ended: 1 completed and 1 died.",
        "The most frequent cause of death (1 of 1): an exponential overflowed in the attention softmax.",
        "Largest stable learning rate 0.01 (0.1 kills): all runs.",
        "The lowest mean final validation loss is 2.0000 nats per token, of lr=0.01.",
    ]


def test_one_run_is_called_so_and_one_rate_has_no_frontier(tmp_path: Path) -> None:
    said = in_short(made_sweep(runs_at((0.01,), 1.0, tmp_path)))
    assert said[:2] == ["The only run has ended: 1 completed and 0 died.", "No run died."]
    assert not any("stable" in line for line in said)


def test_a_sweep_that_has_not_begun_says_only_that() -> None:
    waiting = made_run(outcome=None, steps=0)
    assert in_short(made_sweep([], not_begun=[waiting], num_planned=1)) == [
        "0 of 1 run has ended: 0 completed, 0 died and 1 not begun."
    ]


def test_a_loss_that_left_is_told_by_what_grew_first(tmp_path: Path) -> None:
    facts = {"first_growth": "activation_rms/residual/layer_2"}
    run = dead_run(9, outcome="diverged", cause=None, facts=facts, folder=tmp_path)
    grew = "the RMS of the residual stream"
    said = f"The most frequent cause of death (1 of 1): the loss left for good; first to grow: {grew}."
    assert said in in_short(made_sweep([run]))


def test_small_differences_keep_their_digits() -> None:
    def words(*differences: float) -> str:
        mean = paired_difference(dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0)).mean
        assert mean is not None
        return difference_in_words(mean)

    assert words(0.25) == "+0.2500" and words(-2e-6) == "-2e-06"
    assert words(1e-6, 3e-6).startswith("+2e-06 [") and "0.0000" not in words(1e-6, 3e-6)
    assert words(0.1, 0.3).startswith("+0.2000 [-1.0706,")
