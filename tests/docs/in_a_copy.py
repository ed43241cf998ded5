"""Run by test_howto.py in a copy of the project that has everything the how-tos add: do their commands work?"""

import json
import math
from pathlib import Path

import pytest
from tests.commands import QUICK, check_it_runs, commands_of, is_run, sized

HOWTOS = Path(__file__).resolve().parents[2] / "docs" / "howto"
RUNS = [
    pytest.param(line, id=f"{page.stem}: {line}")
    for page in map(HOWTOS.joinpath, ("norm.md", "optimizer.md", "data-source.md"))
    for line in commands_of(page.read_text())
    if is_run(line)
]


@pytest.mark.parametrize("command_line", RUNS)
def test_the_commands_of_the_how_tos_run(command_line: str, command, tmp_path: Path) -> None:
    check_it_runs(command_line, command, tmp_path, QUICK)


def test_the_added_statistic_is_in_the_metrics(command, tmp_path: Path) -> None:
    (line,) = commands_of((HOWTOS / "statistic.md").read_text())
    assert command(*sized(line), "hydra.run.dir=run").exit_code == 0
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert math.isfinite(first["activation_kurtosis/residual/layer_0"])


def test_a_wrong_value_of_the_added_norm_gets_the_line_that_the_page_shows(command) -> None:
    said = command("model/norm=half", "model.norm.eps=-1")
    page = " ".join((HOWTOS / "norm.md").read_text().split())
    assert said.exit_code == 2
    assert said.err.strip().removeprefix("error: ") in page


def test_the_added_experiment_is_shown_and_run_and_reported_with_its_claims(command, tmp_path: Path) -> None:
    show, sweep, _ = commands_of((HOWTOS / "experiment.md").read_text())  # the third is run by test_pages.py
    assert "Is warmup a substitute for norms?" in command(*sized(show)).out
    assert command(*sized(sweep, QUICK), "hydra.sweep.dir=multirun/first").exit_code == 0
    told = (tmp_path / "multirun" / "first" / "report" / "report.md").read_text()
    assert "Is warmup a substitute for norms?" in told
    assert "Without norms some runs die, with warmup too." in told
