"""A sweep folder is read whatever state it is in, and its table is the same bytes every time."""

import csv
import io
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from tests.report.made import INITIAL_LOSS, PLANNED_STEPS, VARIED, made_run, made_sweep, write_run, write_sweep

from normlab.core.errors import UserError
from normlab.report.load import load_sweep
from normlab.report.results import Cause, RunResult, SweepResult
from normlab.report.results_csv import results_csv


@pytest.fixture
def sweep_folder(tmp_path: Path) -> Path:
    return write_sweep(tmp_path)


def one(sweep: SweepResult, outcome: str | None) -> RunResult:
    return next(run for run in sweep.runs if run.outcome == outcome)


def test_a_whole_sweep_is_read(sweep_folder: Path) -> None:
    sweep = load_sweep(sweep_folder)
    assert (len(sweep.runs), len(sweep.not_begun), sweep.num_planned) == (71, 1, 72)
    assert (sweep.experiment, list(sweep.varied), sweep.remarks) == ("made_up", list(VARIED), [])
    counted = Counter(run.outcome for run in sweep.runs)
    assert counted == {"completed": 50, "nonfinite": 12, "diverged": 6, "interrupted": 1, "crashed": 1, None: 1}
    assert [dict(run.choices)["model/norm"] for run in sweep.runs] == ["rmsnorm"] * 35 + ["none"] * 36
    assert len({run.folder for run in sweep.runs}) == 53


def test_a_dead_run_is_read_with_its_cause(sweep_folder: Path) -> None:
    run = one(load_sweep(sweep_folder), "nonfinite")
    assert (run.steps, run.cause) == (12, Cause("exp_overflow", 1, "attention.attend.softmax"))
    assert run.final_val_loss is None and run.initial_loss == INITIAL_LOSS
    assert run.facts["first_growth"] == "activation_rms/ffn/layer_1"
    assert run.facts["overrides"]["model/norm"] == "none"


def test_a_running_run_is_read_by_its_steps(sweep_folder: Path) -> None:
    run = one(load_sweep(sweep_folder), None)
    assert (run.steps, run.planned_steps, run.final_val_loss) == (35, PLANNED_STEPS, None)
    assert run.initial_loss == INITIAL_LOSS and run.best_val_loss is not None


def test_a_run_that_went_on_after_an_interruption_has_not_ended(sweep_folder: Path) -> None:
    folder = one(load_sweep(sweep_folder), "interrupted").folder
    with (folder / "metrics.jsonl").open("a") as lines:
        lines.write(json.dumps({"step": 26, "tokens": 9, "seconds": 1.0, "train_loss": 3.0}) + "\n")
    run = next(run for run in load_sweep(sweep_folder).runs if run.folder == folder)
    assert (run.outcome, run.steps) == (None, 26)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("summary.json", '{"outcome": "comp', "summary.json is damaged"),
        ("summary.json", '{"outcome": "won", "steps": 3}', "the outcome in summary.json is none of"),
        ("summary.json", '{"outcome": "completed", "steps": []}', "steps in summary.json is no number"),
        ("summary.json", '{"outcome": "interrupted", "steps": 1, "fingerprint": "ab"}', "the fingerprints differ"),
        ("autopsy.json", "{", "no autopsy.json that can be read"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_remarked_upon_and_the_rest_is_read(
    sweep_folder: Path, name: str, content: str, said: str
) -> None:
    folder = one(load_sweep(sweep_folder), "nonfinite").folder
    (folder / name).write_text(content)
    sweep = load_sweep(sweep_folder)
    assert len(sweep.runs) == 71
    assert any(said in remark for remark in sweep.remarks)


def test_steps_after_a_damaged_line_are_left_out(sweep_folder: Path) -> None:
    folder = one(load_sweep(sweep_folder), None).folder
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join([*lines[:9], "\x00\x00\n", *lines[10:]]))
    sweep = load_sweep(sweep_folder)
    assert one(sweep, None).steps == 9
    assert any("line 10 is none" in remark for remark in sweep.remarks)


def test_a_death_without_an_autopsy_has_no_known_cause(sweep_folder: Path) -> None:
    folder = one(load_sweep(sweep_folder), "nonfinite").folder
    (folder / "autopsy.json").unlink()
    sweep = load_sweep(sweep_folder)
    assert next(run for run in sweep.runs if run.folder == folder).cause == Cause(None, None, None)
    assert any("no autopsy.json" in remark for remark in sweep.remarks)


@pytest.mark.parametrize(
    "plan", [None, "{", '{"format": 2}', '{"format": 1, "command": "", "varied": {}, "jobs": [], "claims": [3]}']
)
def test_without_a_plan_the_sweep_is_told_from_its_runs(sweep_folder: Path, plan: str | None) -> None:
    (sweep_folder / "sweep.json").unlink()
    if plan is not None:
        (sweep_folder / "sweep.json").write_text(plan)
    sweep = load_sweep(sweep_folder)
    assert {key: set(values) for key, values in sweep.varied.items()} == {k: set(v) for k, v in VARIED.items()}
    assert (len(sweep.runs), {run.lr for run in sweep.runs}, sweep.num_planned) == (53, {0.001, 0.01, 0.1}, 53)
    assert any("sweep.json is damaged" in remark for remark in sweep.remarks) == (plan is not None)


def test_an_override_that_only_some_runs_name_is_read_from_the_configuration(tmp_path: Path) -> None:
    write_run(tmp_path / "a", {"model": "micro", "trainer.steps": "30"}, 0.01, 0, "completed")
    write_run(tmp_path / "b", {"model": "micro", "model/norm": "none"}, 0.01, 0, "completed")
    assert [dict(run.choices) for run in load_sweep(tmp_path).runs] == [
        {"trainer.steps": "30", "model/norm": "default"},
        {"trainer.steps": str(PLANNED_STEPS), "model/norm": "none"},
    ]


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="sweep must name a folder with runs"):
        load_sweep(tmp_path)
    with pytest.raises(UserError, match="sweep must name a folder with runs"):
        load_sweep(tmp_path / "none")


def test_runs_of_several_versions_are_remarked_upon(sweep_folder: Path) -> None:
    path = one(load_sweep(sweep_folder), "completed").folder / "summary.json"
    path.write_text(path.read_text().replace("0123456789abcdef", "fedcba9876543210", 1))
    assert any("2 versions of the program" in remark for remark in load_sweep(sweep_folder).remarks)


def test_the_table_has_the_same_bytes_wherever_and_in_whatever_order_the_runs_lie(
    sweep_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    moved = tmp_path_factory.mktemp("moved") / "sweep"
    shutil.copytree(sweep_folder, moved)
    plan = json.loads((moved / "sweep.json").read_text())
    plan["jobs"].reverse()
    (moved / "sweep.json").write_text(json.dumps(plan))
    assert results_csv(load_sweep(moved)) == results_csv(load_sweep(sweep_folder))


def test_the_table_has_one_row_a_job_with_all_fields(sweep_folder: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(results_csv(load_sweep(sweep_folder)))))
    assert len(rows) == 71 and None not in rows[0] and len({row["name"] for row in rows}) == 71
    dead = next(row for row in rows if row["outcome"] == "nonfinite")
    fields = ("model/norm", "attention/clamp", "lr", "steps", "final_train_loss", "final_val_loss", "cause_site")
    assert [dead[field] for field in fields] == ["none", "none", "0.01", "12", "nan", "", "attention.attend.softmax"]


def test_numbers_have_nine_digits_and_texts_one_line() -> None:
    runs = [made_run(final_val_loss=1 / 3, facts={"error": "first line\nsecond"})]
    (row,) = csv.DictReader(io.StringIO(results_csv(made_sweep(runs))))
    assert (row["final_val_loss"], row["error"]) == ("0.333333333", "first line second")
