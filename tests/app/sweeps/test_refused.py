"""Sweeps that cannot be run are refused in one line before anything is written; experiments may lie elsewhere."""

from pathlib import Path

import pytest

FRONTIER = "hydra/sweeper=frontier"
OWN = """\
# @package _global_
# two seeds of the user's own
study:
  grid: {seed: "0,1"}
"""


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("seed=range(0)",), "A sweep must have at least one value; got seed=range(0)."),
        (
            (FRONTIER, "hydra.sweeper.per_decade=0"),
            "hydra.sweeper.per_decade must be a whole number in [1, 100]; got",
        ),
        ((FRONTIER, "hydra.sweeper.lowest=no"), "hydra.sweeper.lowest must be a number greater than 0; got"),
        ((FRONTIER, "hydra.sweeper.lowest=2"), "hydra.sweeper.highest must be at least lowest, 2; got 1."),
        ((FRONTIER, "optimizer.lr=1e-3,1e-2"), "hydra/sweeper=frontier chooses optimizer.lr itself"),
    ],
)
def test_it_is_said_in_one_line(arguments: tuple[str, ...], what: str, command, tmp_path: Path) -> None:
    said = command("--multirun", "model=micro", *arguments)
    assert said.exit_code == 2
    assert what in said.err and said.err.count("\n") == 1
    assert not (tmp_path / "multirun").exists()


def test_an_experiment_of_the_users_own_is_found(command, text_data, tmp_path: Path) -> None:
    own = tmp_path / "own" / "experiment" / "mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(OWN)
    small = ("model=micro", "tokenizer=bytes", "trainer.steps=1", "trainer.val_tokens=64", "logger=none")
    said = command("--multirun", "--config-dir=own", "experiment=mine", *small, *text_data)
    assert said.exit_code == 0, said.err
    assert "2 runs: 2 completed" in said.out
    assert "mine" in command("--multirun", "--config-dir=own", "experiment=min").err
