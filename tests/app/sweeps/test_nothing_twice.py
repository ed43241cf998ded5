"""A sweep that is started again takes no step that it has a result of."""

import os
import shlex
from pathlib import Path

import pytest
from tests.app.planting import before_call, planted_error
from tests.app.run_differences import differences
from tests.app.sweeps.sweeping import FATAL, LOGGED, QUICK, SMALL, SWEEP, outcomes, runs, steps_taken, table

from normlab.core.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("no_report")
HAVE = "runs have a result already: they are not run again."
COMMIT = "normlab.app.sweeps.planning.git_commit"


def test_the_same_command_takes_no_step(command, text_data, tmp_path: Path) -> None:
    again = ("--multirun", *SMALL, *FATAL, *text_data)
    assert command(*again).exit_code == 0
    before = steps_taken(tmp_path / "sweep")
    assert outcomes(tmp_path / "sweep") == ["completed", "nonfinite"]
    said = command(*again)
    assert said.exit_code == 0
    assert f"2 {HAVE}" in said.err and "2 runs: 1 completed, 1 nonfinite" in said.out
    assert not [line for line in said.out.splitlines() if line.startswith("[")]
    assert steps_taken(tmp_path / "sweep") == before


def test_of_more_seeds_only_the_new_are_run(command, text_data, tmp_path: Path) -> None:
    arguments = ("--multirun", *SMALL, *text_data)
    command(*arguments, "seed=1")
    before = steps_taken(tmp_path / "sweep")
    said = command(*arguments, "seed=0,1,2")
    assert said.exit_code == 0 and f"1 {HAVE}" in said.err
    assert "[2/3] seed=0" in said.out and "[3/3] seed=2" in said.out and "seed=1 " not in said.out
    after = steps_taken(tmp_path / "sweep")
    assert len(after) == 3 and before.items() <= after.items()


@pytest.mark.slow
def test_another_command_in_the_same_folder_leaves_out_what_it_does_not_ask_for(
    command, text_data, tmp_path: Path
) -> None:
    arguments = ("--multirun", *SMALL, *text_data)
    command(*arguments, "seed=0,1")
    said = command(*arguments, "seed=1,2")
    assert "note: 1 runs in this folder are not of this command; they are left out." in said.err
    assert "[2/2] seed=2" in said.out and "2 runs: 2 completed" in said.out
    assert [row["seed"] for row in table(tmp_path / "sweep")] == ["1", "2"]
    before = steps_taken(tmp_path / "sweep")
    assert "3 runs: 3 completed" in command(*arguments, "seed=0,1,2").out
    assert steps_taken(tmp_path / "sweep") == before, "the first is there again"


def test_names_that_build_the_same_model_are_one_run_and_a_row_each(command, text_data, tmp_path: Path) -> None:
    said = command("--multirun", *SMALL, *text_data, "model/norm=none", "model/placement=pre,post")
    assert "1 runs: 1 completed (1 more build a model that another has, and were not run again)" in said.out
    pre, post = table(tmp_path / "sweep")
    assert (pre.pop("model/placement"), post.pop("model/placement")) == ("pre", "post")
    assert pre.pop("name") != post.pop("name")
    assert pre == post and pre["outcome"] == "completed"
    assert len(steps_taken(tmp_path / "sweep")) == 1


def test_a_crashed_run_is_tried_again_and_ends_as_if_it_had_not_crashed(
    command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = ("--multirun", *LOGGED, "trainer.steps=6", "trainer.checkpoint_every=2", *text_data, "seed=0,1")
    with monkeypatch.context() as patch:
        planted_error(patch, "normlab.train.loop.training_step", RuntimeError("a planted fault"), nth=4)
        said = command(*again, SWEEP)
    assert said.exit_code == 1
    assert outcomes(tmp_path / "sweep") == ["crashed", "completed"]
    assert "failed:\n  seed=0: crashed (RuntimeError: a planted fault)" in said.out
    before = steps_taken(tmp_path / "sweep")
    retried = command(*again, SWEEP)
    assert retried.exit_code == 0 and f"1 {HAVE}" in retried.err
    assert "[2/2] seed=0" in retried.out and "failed" not in retried.out
    assert outcomes(tmp_path / "sweep") == ["completed", "completed"]
    after = steps_taken(tmp_path / "sweep")
    assert [after[name] == metrics for name, metrics in before.items()] == [False, True]
    command(*again, "hydra.sweep.dir=undisturbed")
    for run, undisturbed in zip(runs(tmp_path / "sweep"), runs(tmp_path / "undisturbed"), strict=True):
        assert differences(run, undisturbed) in ([], [".hydra/overrides.yaml"])


def test_an_interrupted_sweep_goes_on_and_ends_as_an_undisturbed_one(
    command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = ("--multirun", *LOGGED, "trainer.steps=4", *text_data, "seed=0,1,2")
    with monkeypatch.context() as patch:
        before_call(patch, "normlab.train.loop.training_step", lambda: os.kill(os.getpid(), 15), nth=6)
        said = command(*again, SWEEP)
    assert said.exit_code == 143
    assert outcomes(tmp_path / "sweep")[:2] == ["completed", "interrupted"]
    assert "3 runs: 1 completed, 1 interrupted, 1 not ended" in said.out and "failed" not in said.out
    go_on = next(line for line in said.out.splitlines() if line.startswith("go on with it: "))
    words = shlex.split(go_on.removeprefix("go on with it: python src/run.py "))
    assert words == [*again, SWEEP]
    assert command(*words).exit_code == 0
    command(*again, "hydra.sweep.dir=undisturbed")
    assert table(tmp_path / "sweep") == table(tmp_path / "undisturbed")
    for run, undisturbed in zip(runs(tmp_path / "sweep"), runs(tmp_path / "undisturbed"), strict=True):
        assert differences(run, undisturbed) in ([], [".hydra/overrides.yaml"])


def test_another_version_of_the_code_is_told(
    command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("normlab.app.summary.git_commit", lambda: "first")
    monkeypatch.setattr(COMMIT, lambda: "first")
    arguments = ("--multirun", *SMALL, *text_data)
    command(*arguments, "seed=0")
    same = command(*arguments, "seed=0,1")
    assert "another version" not in same.err
    monkeypatch.setattr(COMMIT, lambda: "second")
    other = command(*arguments, "seed=0,1")
    assert "note: 2 of 2 results in this folder were made with another version of the code or of torch." in other.err
    assert f"2 {HAVE}" in other.err


def test_changed_data_are_told_and_their_runs_made_anew(command, text_data, tmp_path: Path) -> None:
    arguments = ("--multirun", *SMALL, *text_data, "seed=0,1")
    command(*arguments)
    before = steps_taken(tmp_path / "sweep")
    (tmp_path / "a.txt").write_text("Another text altogether. " * 60)
    said = command(*arguments)
    assert said.exit_code == 0
    assert "note: 2 runs are not what they were when this sweep began, though the command is: data or" in said.err
    assert "2 runs: 2 completed" in said.out and HAVE not in said.err
    after = steps_taken(tmp_path / "sweep")
    assert len(after) == 4 and before.items() <= after.items()


class TestFromElsewhere:
    """reuse=global."""

    ASKED = ("--multirun", *QUICK, "trainer.steps=3", "seed=0,1,2", "reuse=global", SWEEP)

    @pytest.fixture(autouse=True)
    def commit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for place in (COMMIT, "normlab.app.sweeps.reuse.git_commit", "normlab.app.summary.git_commit"):
            monkeypatch.setattr(place, lambda: "here")

    def test_results_of_other_sweeps_and_runs_are_taken(self, command, text_data, tmp_path: Path) -> None:
        small = (*QUICK, "trainer.steps=3", *text_data)
        command("--multirun", *small, "seed=0", "hydra.sweep.dir=multirun/day/time")
        command(*small, "seed=1", "hydra.run.dir=outputs/day/time")
        said = command(*self.ASKED, *text_data)
        assert said.exit_code == 0
        assert "reuse=global: 2 of 3 runs have a result elsewhere." in said.err
        assert "[3/3] seed=2" in said.out and "3 runs: 3 completed" in said.out
        assert len(steps_taken(tmp_path / "sweep")) == 1
        rows = table(tmp_path / "sweep")
        assert [row["outcome"] for row in rows] == ["completed"] * 3
        assert rows[1]["folder"] == "../outputs/day/time"
        again = command(*self.ASKED, *text_data)
        assert "reuse=global: 0 of 0 runs have a result elsewhere." in again.err and f"3 {HAVE}" in again.err

    def test_those_of_another_version_are_not(
        self, command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("normlab.app.summary.git_commit", lambda: "elsewhere")
        command(*QUICK, "trainer.steps=3", *text_data, "seed=1", "hydra.run.dir=outputs/day/time")
        said = command(*self.ASKED, *text_data)
        assert "reuse=global: 0 of 3 runs have a result elsewhere." in said.err
        assert "results of 1 more are of another version of the code or of torch: not taken." in said.err
        assert len(steps_taken(tmp_path / "sweep")) == 3

    @pytest.mark.slow
    def test_one_that_is_gone_is_made_here(self, command, text_data, tmp_path: Path) -> None:
        command(*QUICK, "trainer.steps=3", *text_data, "seed=1", "hydra.run.dir=outputs/day/time")
        command(*self.ASKED, *text_data)
        elsewhere = tmp_path / "outputs" / "day" / "time"
        RunFolder(elsewhere).summary.unlink()
        left = RunFolder(elsewhere).metrics.read_bytes()
        said = command(*self.ASKED[:-2], SWEEP, *text_data)
        assert "[3/3] seed=1" in said.out
        assert RunFolder(elsewhere).metrics.read_bytes() == left, "nothing is written elsewhere"
        assert len(steps_taken(tmp_path / "sweep")) == 3
