"""sweep.json, written before the first run: what it says of every run, and which are one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.app.sweeps.sweeping import SMALL, planned

from normlab.app.options import CONFIG_FOLDER
from normlab.app.sweeps.plan import SweepPlan
from normlab.core.errors import CheckpointError, ConfigError

STUDY = """\
# @package _global_
study:
  question: Does it live?
  baseline: {model/norm: rmsnorm}
  arms:
    - {model/norm: rmsnorm}
    - {init/scale: small, trainer.grad_clip: null}
  grid:
    optimizer.lr: logspace(-3,-2,2)
    seed: range(2)
  claims:
    - id: lives
      text: It lives.
      criterion: {kind: runs, where: {model/norm: rmsnorm}, that: {outcome: alive}, at_least: 1.0, min_seeds: 2}
"""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def experiment(here: Path) -> tuple[str, ...]:
    """Arguments that choose an experiment of one's own."""
    shutil.copytree(CONFIG_FOLDER, here / "my")
    (here / "my" / "experiment" / "own.yaml").write_text(STUDY)
    return (f"--config-path={here / 'my'}", "experiment=own")


def test_the_plan_of_a_command_line(here: Path, text_data) -> None:
    plan = planned(*text_data, "model/norm=rmsnorm,none", "seed=range(2)")
    content = json.loads((here / "sweep" / "sweep.json").read_bytes())
    assert content["format"] == 1
    assert plan.command.startswith("python src/run.py --multirun data=text") and "'seed=range(2)'" in plan.command
    assert (plan.experiment, plan.question, plan.baseline, list(plan.claims)) == (None, None, None, [])
    assert content["varied"] == {"model/norm": ["rmsnorm", "none"]}
    first = content["jobs"][0]
    assert set(first) == {
        "name", "folder", "overrides", "choices", "lr", "seed", "fingerprint", "planned_steps",
    }  # fmt: skip
    assert first["folder"] == first["name"] == f"norm=rmsnorm,seed=0-{first['fingerprint'][:8]}"
    assert (first["choices"], first["lr"], first["seed"], first["planned_steps"]) == (
        {"model/norm": "rmsnorm"}, 0.003, 0, 3,
    )  # fmt: skip
    assert "model/norm=rmsnorm" in first["overrides"] and "seed=0" in first["overrides"]
    assert [(job.choices["model/norm"], job.seed) for job in plan.jobs] == [
        ("rmsnorm", 0), ("rmsnorm", 1), ("none", 0), ("none", 1),
    ]  # fmt: skip
    assert not list(here.glob("sweep/*/")), "no run has begun"


def test_the_plan_of_an_experiment(here: Path, text_data, experiment) -> None:
    plan = planned(*experiment, *text_data)
    assert (plan.experiment, plan.question, plan.baseline) == ("own", "Does it live?", {"model/norm": "rmsnorm"})
    assert [claim["id"] for claim in plan.claims] == ["lives"]
    assert len(plan.jobs) == 8
    assert plan.varied == {
        "model/norm": ["rmsnorm"], "init/scale": ["unit", "small"], "trainer.grad_clip": ["1.0", "null"],
    }  # fmt: skip
    assert {tuple(job.choices.values()) for job in plan.jobs} == {
        ("rmsnorm", "unit", "1.0"),
        ("rmsnorm", "small", "null"),
    }
    assert [(job.lr, job.seed) for job in plan.jobs[:4]] == [(0.001, 0), (0.001, 1), (0.01, 0), (0.01, 1)]


def test_what_is_typed_replaces_what_the_experiment_says(here: Path, text_data, experiment) -> None:
    plan = planned(*experiment, *text_data, "seed=7", "model/norm=none")
    assert {job.seed for job in plan.jobs} == {7}
    assert {job.lr for job in plan.jobs} == {0.001, 0.01}
    assert "model/norm" not in plan.varied, "it is the same in all runs"


def test_names_that_build_the_same_model_share_a_run(here: Path, text_data) -> None:
    plan = planned(*text_data, "model/norm=rmsnorm,none", "model/placement=pre,post")
    assert len(plan.jobs) == 4
    pre, post = plan.jobs[2:]
    assert (pre.choices["model/placement"], post.choices["model/placement"]) == ("pre", "post")
    assert pre.fingerprint == post.fingerprint and pre.folder == post.folder and pre.name != post.name
    runs = plan.runs(here / "sweep")
    assert [run.job for run in runs] == list(plan.jobs[:3])


def test_more_seeds_leave_the_runs_that_there_are_in_their_folders(here: Path, text_data) -> None:
    one = planned(*text_data, "seed=1")
    more = planned(*text_data, "seed=0,1")
    assert more.jobs[1].folder == one.jobs[0].folder != more.jobs[1].name


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 2}', '{"format": 1, "jobs": 3}', '{"format": 1}'])
def test_a_damaged_plan_gets_one_line(damage: str, command, text_data, tmp_path: Path) -> None:
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "sweep.json").write_text(damage)
    said = command("--multirun", *SMALL, *text_data, "seed=0,1")
    assert said.exit_code == 2
    assert said.err.startswith("error: sweep/sweep.json is damaged: ") and said.err.count("\n") == 1
    assert said.err.rstrip().endswith("Delete it to have the sweep planned anew.")


def test_the_claims_stay_as_they_were_before_the_first_run(
    here: Path, text_data, experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(*experiment, *text_data)
    path = here / "my" / "experiment" / "own.yaml"
    path.write_text(path.read_text().replace("at_least: 1.0", "at_least: 0.1"))
    plan = planned(*experiment, *text_data)
    assert "claims have changed since this sweep began; they are judged as they were" in capsys.readouterr().err
    criterion: Any = plan.claims[0]["criterion"]
    assert criterion["at_least"] == 1.0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("question:", "quest:", "study must have none but"),
        (
            "{init/scale: small",
            "{init/scale: smalll",
            "init/scale must be one of: .*Type init/scale=small",
        ),
        ("trainer.grad_clip: null", "trainer.grad_clop: null", "trainer.grad_clop"),
        ("range(2)", "range(", "Every argument must read group=option or key=value; got seed=range\\("),
        ("logspace(-3,-2,2)", "logspace(1)", "logspace takes the exponents"),
        ("at_least: 1.0", "at_least: 2.0", r"study.claims\[0\].criterion.at_least must be a share"),
    ],
)
def test_a_study_that_cannot_be_run_leaves_no_folder(
    old: str, new: str, said: str, here: Path, text_data, experiment
) -> None:
    path = here / "my" / "experiment" / "own.yaml"
    assert old in STUDY
    path.write_text(STUDY.replace(old, new))
    with pytest.raises(ConfigError, match=said) as error:
        planned(*experiment, *text_data)
    assert "\n" not in str(error.value)
    assert not (here / "sweep").exists()


def test_an_experiment_that_does_not_exist(command) -> None:
    said = command("--multirun", "experiment=seed_ablatio")
    assert said.exit_code == 2
    assert said.err.startswith("error: experiment must be one of: ")
    assert "Type experiment=seed_ablation." in said.err and said.err.count("\n") == 1


def test_a_plan_that_is_not_there_is_no_plan(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is damaged"):
        SweepPlan.read(tmp_path)
