"""A run in a sweep gives the same bytes as alone, whatever ran before it in the process."""

from pathlib import Path

import pytest
from tests.app.killing import Runs
from tests.app.run_differences import differences
from tests.app.sweeps.sweeping import LOGGED, SWEEP, runs

from normlab.core.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_report")


def differs(command, tmp_path: Path, swept: str, values: tuple[str, ...], *others: str) -> list[str]:
    """In what the last run of a sweep over the values differs from one alone, beside the words that chose it."""
    said = command("--multirun", *LOGGED, *others, f"{swept}={','.join(values)}", SWEEP)
    assert said.exit_code == 0, said.err
    with Runs() as server:  # a process that has run nothing before
        assert server.to_the_end(tmp_path, *LOGGED, *others, f"{swept}={values[-1]}", "hydra.run.dir=alone") == 0
    found = differences(runs(tmp_path / "sweep")[-1], RunFolder(tmp_path / "alone"))
    return [line for line in found if ".hydra" not in line]


@pytest.mark.parametrize(
    ("swept", "values"),
    [
        ("model.width", ("64", "16", "32")),
        pytest.param("trainer.precision", ("bfloat16", "float32"), marks=pytest.mark.slow),
    ],
)
def test_behind_other_runs(swept: str, values: tuple[str, ...], command, text_data, tmp_path: Path) -> None:
    assert differs(command, tmp_path, swept, values, "trainer.steps=3", *text_data) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")
def test_compiled_behind_another_batch_size(command, text_data, tmp_path: Path) -> None:
    compiled = ("trainer.compile=true", "trainer.steps=3", *text_data)
    assert differs(command, tmp_path, "trainer.batch_size", ("3", "5", "2"), *compiled) == []
