"""task=report: the answer of a sweep from its folder, at any time, and nothing left anywhere else."""

import csv
from pathlib import Path

import pytest

from normlab.core.run_folder import RunFolder

SMALL = (
    "model=micro", "tokenizer=bytes", "trainer.steps=2", "trainer.val_tokens=64", "schedule.warmup_steps=1",
    "logger=none",
)  # fmt: skip
NAME = "of=two,norms"
FATAL = ("model/norm=rmsnorm,none", "init.scale.factor=1e30", "init.scale.roles=[ffn_down]")


@pytest.fixture
def sweep(command, text_data, tmp_path: Path) -> Path:
    """Of a norm that keeps two seeds alive, and none, without which they die."""
    said = command("--multirun", *SMALL, *FATAL, *text_data, "seed=0,1", "hydra.sweep.dir=sweep")
    assert said.exit_code == 0, said.err
    return (tmp_path / "sweep").rename(tmp_path / NAME)


def test_report_of_a_real_sweep(command, sweep: Path, tmp_path: Path) -> None:
    before = {path.name for path in tmp_path.iterdir()}
    said = command("task=report", f"sweep={NAME}")
    assert said.exit_code == 0, said.err
    assert "- All 4 runs have ended: 2 completed and 2 died.\n- In 1 of 2 variants runs died: norm=none.\n" in said.out
    assert said.out.endswith(f"read it: {Path(NAME) / 'report' / 'index.html'}\n")
    assert {path.name for path in tmp_path.iterdir()} == before
    with (sweep / "report" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["outcome"] for row in rows].count("nonfinite") == 2
    completed = [row for row in rows if row["outcome"] == "completed"]
    assert len(completed) == 2 and all(float(row["final_bits_per_byte"]) > 1 for row in completed)


def test_a_report_that_is_given_away_leads_nowhere_else(command, sweep: Path, tmp_path: Path) -> None:
    assert command("task=report", f"sweep={NAME}", "into=shown/here").exit_code == 0
    assert "autopsy.md" not in (tmp_path / "shown/here/report.md").read_text()
    assert str(tmp_path) not in (tmp_path / "shown/here/index.html").read_text()
    assert command("task=report", f"sweep={NAME}").exit_code == 0
    assert "autopsy.md" in (sweep / "report/report.md").read_text()


def test_report_of_a_sweep_that_goes_on_says_so(command, sweep: Path) -> None:
    survivor = next(folder for folder in sweep.iterdir() if "norm=rmsnorm" in folder.name)
    RunFolder(survivor).summary.unlink()
    said = command("task=report", f"sweep={NAME}")
    assert said.exit_code == 0, said.err
    assert "3 of 4 runs have ended: 1 completed, 2 died and 1 not ended." in said.out
    assert "This sweep is not complete" in (sweep / "report" / "report.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((), "sweep must be given"),
        (("sweep=nowhere",), "sweep must name a folder with runs in it; got 'nowhere'"),
        (("sweep=a.txt",), "sweep must name a folder with runs in it; got 'a.txt'"),
        (("sweep=.", "model/norm=none"), "The sweep decides the model"),
    ],
)
def test_what_cannot_be_reported_on_gets_one_line(
    arguments: tuple[str, ...], what: str, command, text_data, tmp_path: Path
) -> None:
    said = command("task=report", *arguments)
    assert said.exit_code == 2
    assert said.err.startswith(f"error: {what}") and said.err.count("\n") == 1
    assert not (tmp_path / "report").exists()
