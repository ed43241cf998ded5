"""A sweep that is killed three times at random and started again ends with the table of an undisturbed one."""

import csv
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.app.killing import AtChange, Runs
from tests.app.sweeps.sweeping import QUICK, SWEEP

TIMES = ("seconds", "tokens_per_second")
"""The columns of results.csv that a clock fills; all others are compared byte for byte."""
COMMIT = "git_commit"
"""Compared only where nobody commits to the checkout between the two sweeps."""
STEPS = ("trainer.steps=4", "trainer.checkpoint_every=2")
ONE_IN_FOUR_DIES = (
    "model/norm=rmsnorm,none", "init.scale.factor=1,1e30", "init.scale.roles=[ffn_down]", "seed=0,1",
)  # fmt: skip
OF_8_RUNS = ONE_IN_FOUR_DIES
OF_24_RUNS = (*ONE_IN_FOUR_DIES[1:], "model/norm=rmsnorm,layernorm,none", "model/ffn=swiglu,gelu")
CHANGES_OF_A_RUN = 40
"""About how often a run changes the disk."""


@pytest.fixture(scope="module")
def server() -> Iterator[Runs]:
    with Runs() as runs:
        yield runs


@pytest.mark.parametrize(
    ("asked", "num_runs", "num_dead", "draw"),
    [
        pytest.param(OF_8_RUNS, 8, 2, 0, id="8 runs"),
        *(pytest.param(OF_24_RUNS, 24, 4, draw, id=f"24 runs, {draw}", marks=pytest.mark.slow) for draw in range(4)),
    ],
)
def test_killed_three_times(
    asked: tuple[str, ...], num_runs: int, num_dead: int, draw: int, server: Runs, text_data, tmp_path: Path
) -> None:
    command = ("--multirun", *QUICK, *STEPS, *text_data, *asked)
    generator = random.Random(draw)
    for _ in range(3):
        death = AtChange(generator.randrange(1, num_runs * CHANGES_OF_A_RUN // 4), since="sweep.json")
        assert server.to_the_end(tmp_path, *command, SWEEP, death=death) == -9, said(tmp_path)
    assert server.to_the_end(tmp_path, *command, SWEEP) == 0, said(tmp_path)
    assert server.to_the_end(tmp_path, *command, "hydra.sweep.dir=undisturbed") == 0, said(tmp_path)

    killed, undisturbed = (results(tmp_path / name) for name in ("sweep", "undisturbed"))
    assert killed == undisturbed
    outcomes = [row["outcome"] for row in killed]
    assert len(outcomes) == num_runs and outcomes.count("nonfinite") == num_dead
    assert outcomes.count("completed") == num_runs - num_dead


def results(sweep: Path) -> list[dict[str, str]]:
    """The rows of the table, without times."""
    with (sweep / "report" / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and set(TIMES) < set(rows[0])
    return [{key: text for key, text in row.items() if key not in (*TIMES, COMMIT)} for row in rows]


def said(folder: Path) -> str:
    return (folder / "said.txt").read_text()[-3000:]
