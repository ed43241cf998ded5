"""Which runs a command line and a study ask for."""

import pytest

from normlab.app.overrides import parse_override
from normlab.app.sweeps.grid import jobs_of, swept_keys
from normlab.app.sweeps.spelled_out import spelled_out
from normlab.app.sweeps.study import Study
from normlab.core.errors import ConfigError

STUDY = Study(
    arms=[{"model/norm": "rmsnorm"}, {"model/norm": "none", "init/scale": "small"}],
    grid={"optimizer.lr": "1e-3,1e-2", "seed": "range(2)"},
)


def jobs(*typed: str, study: Study = STUDY) -> list[list[str]]:
    return jobs_of([parse_override(spelled_out(text)) for text in typed], study)


def test_every_arm_is_run_over_the_whole_grid_whose_last_key_varies_fastest() -> None:
    found = jobs("model=micro")
    assert len(found) == 8
    assert found[:3] == [
        ["model=micro", "model/norm=rmsnorm", "optimizer.lr=0.001", "seed=0"],
        ["model=micro", "model/norm=rmsnorm", "optimizer.lr=0.001", "seed=1"],
        ["model=micro", "model/norm=rmsnorm", "optimizer.lr=0.01", "seed=0"],
    ]
    assert found[-1] == ["model=micro", "model/norm=none", "init/scale=small", "optimizer.lr=0.01", "seed=1"]
    assert swept_keys([parse_override("model=micro")], STUDY) == ["model/norm", "init/scale", "optimizer.lr", "seed"]


@pytest.mark.parametrize(
    ("typed", "num_jobs", "first"),
    [
        (("seed=7",), 4, ["seed=7", "model/norm=rmsnorm", "optimizer.lr=0.001"]),
        (("seed=7,8,9",), 12, ["model/norm=rmsnorm", "seed=7", "optimizer.lr=0.001"]),
        (("optimizer.lr=1e-4", "seed=0"), 2, ["optimizer.lr=1e-4", "seed=0", "model/norm=rmsnorm"]),
    ],
)
def test_a_typed_key_takes_the_place_of_the_grids(typed: tuple[str, ...], num_jobs: int, first: list[str]) -> None:
    found = jobs(*typed)
    assert len(found) == num_jobs
    assert found[0] == first


def test_a_typed_key_takes_the_place_of_the_arms_and_those_left_without_a_difference_are_one() -> None:
    found = jobs("model/norm=layernorm", "seed=0", "optimizer.lr=1e-3")
    assert [job[3:] for job in found] == [[], ["init/scale=small"]]
    assert all(job[0] == "model/norm=layernorm" for job in found)
    one = Study(arms=[{"model/norm": "rmsnorm"}, {"model/norm": "none"}])
    assert jobs("model/norm=none,l2", study=one) == [["model/norm=none"], ["model/norm=l2"]]


def test_without_a_study_what_was_typed_is_run_in_its_order() -> None:
    assert jobs("model=micro", study=Study()) == [["model=micro"]]
    found = jobs("model/norm=none,l2", "trainer.steps=3", "seed=range(2)", study=Study())
    assert found == [
        ["trainer.steps=3", f"model/norm={norm}", f"seed={seed}"] for norm in ("none", "l2") for seed in (0, 1)
    ]


def test_a_range_and_a_logspace_stand_for_their_values() -> None:
    assert [job[-1] for job in jobs("seed=range(5)", study=Study())] == [f"seed={seed}" for seed in range(5)]
    rates = [job[-1] for job in jobs("optimizer.lr=logspace(-4,-1,7)", study=Study())]
    assert rates == [
        f"optimizer.lr={x}" for x in ("0.0001", "0.0003162", "0.001", "0.003162", "0.01", "0.03162", "0.1")
    ]
    in_grid = Study(grid={"optimizer.lr": "logspace(-3.5,-1.5,3)"})
    assert [job[-1].partition("=")[2] for job in jobs(study=in_grid)] == ["0.0003162", "0.003162", "0.03162"]
    assert spelled_out("optimizer.lr=1e-3") == "optimizer.lr=1e-3"
    assert spelled_out("+a.b=logspace(0,2,3)") == "+a.b=1,10,100"


@pytest.mark.parametrize(
    "arguments", ["1", "a,b,c", "", "-4,-1,1", "-4,-1,2.5", "-4,-1,7,8", "-4,inf,3", "1e-4,1e-1,7"]
)
def test_what_is_no_logspace_gets_one_line(arguments: str) -> None:
    with pytest.raises(ConfigError, match=r"logspace takes the exponents.*Type optimizer\.lr=logspace\(-4,-1,7\)") as e:
        spelled_out(f"optimizer.lr=logspace({arguments})")
    assert "\n" not in str(e.value) and f"logspace({arguments})" in str(e.value)
