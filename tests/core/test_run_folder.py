"""The run folder: what is read from it, what is dropped, and what is never deleted."""

import math
import os
from pathlib import Path

import pytest

from normlab.core.errors import CheckpointError
from normlab.core.records import Outcome, decode_number
from normlab.core.run_folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def make_files(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)


def files_under(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_all_that_a_run_writes_lies_within_its_folder(folder: RunFolder) -> None:
    names = [name for name, value in vars(RunFolder).items() if isinstance(value, property)]
    paths = [getattr(folder, name) for name in names]
    assert len(set(paths)) == len(paths) == 14
    assert all(path.parent == folder.path for path in paths)


def test_metrics_of_a_run_that_has_not_begun_are_empty(folder: RunFolder) -> None:
    assert list(folder.read_metrics()) == []


def test_metrics_are_read_in_order(folder: RunFolder) -> None:
    folder.metrics.write_text('{"step": 1, "train_loss": 2.5}\n{"step": 2, "train_loss": "NaN"}\n')
    first, second = folder.read_metrics()
    assert first == {"step": 1, "train_loss": 2.5}
    assert math.isnan(decode_number(second["train_loss"]))


def test_a_last_line_torn_at_any_byte_is_passed_over(folder: RunFolder) -> None:
    whole, torn = b'{"step": 1}\n', '{"step": 2, "probe/é": 1.5}\n'.encode()
    for num_bytes in range(len(torn)):
        folder.metrics.write_bytes(whole + torn[:num_bytes])
        assert list(folder.read_metrics()) == [{"step": 1}]
    folder.metrics.write_bytes(whole + torn)
    assert [record["step"] for record in folder.read_metrics()] == [1, 2]


def test_a_line_torn_in_the_middle_is_not_passed_over(folder: RunFolder) -> None:
    folder.metrics.write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl must be a JSON object with its step; line 2 is none\."):
        list(folder.read_metrics())


@pytest.mark.parametrize("line", ["[]", "3", "{}", '{"step": "1"}', '{"step": true}', "[" * 100_000, "\xff"])
def test_a_line_that_is_no_record_is_refused_by_its_number(folder: RunFolder, line: str) -> None:
    folder.metrics.write_bytes(line.encode("latin-1") + b"\n")
    with pytest.raises(CheckpointError, match="line 1 is none"):
        folder.forget_metrics_after(1)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b'{"outcome": NaN}', b""])
def test_a_damaged_summary_is_refused_in_one_line(folder: RunFolder, content: bytes) -> None:
    folder.summary.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"summary\.json .* Delete it, then resume the run") as caught:
        folder.read_summary()
    assert "\n" not in str(caught.value)


def test_results_are_outcomes_that_no_resuming_changes(folder: RunFolder) -> None:
    assert folder.result() is None
    results = []
    for outcome in Outcome:
        folder.write_summary({"outcome": outcome})
        results.append(folder.result())
    assert [result for result in results if result is not None] == ["completed", "diverged", "nonfinite"]


def test_what_killed_writers_left_goes_and_nothing_else(folder: RunFolder) -> None:
    mine = [".gitkeep", ".vimrc.abcdefgh", "metrics.jsonl", "checkpoints/.notes.abcdefgh", ".lock"]
    left = [".summary.json.ab_d3fgh", "checkpoints/.step_4.abcd1234/model.safetensors", "checkpoints/.last.new"]
    aside = ["checkpoints/.step_2.abcd1234.old/older", "checkpoints/.step_3.abcd1234.old/whole"]
    mine.append("checkpoints/step_2/x")
    make_files(folder.path, *mine, *left, *aside)
    folder.clear_leftovers()
    assert files_under(folder.path) == sorted([*mine, "checkpoints/step_3/whole"])


def test_later_records_and_a_torn_line_are_forgotten_and_the_others_are_kept_to_the_byte(folder: RunFolder) -> None:
    kept = '{"step": 1, "lr": 0.1, "val_loss": "-Infinity"}\n{"step": 2, "lr": 1e-08, "probe/é": 0.30000000000000004}\n'
    folder.metrics.write_text(kept + '{"step": 3, "lr": 0.1}\n{"step": 4, "l', encoding="utf-8")
    folder.forget_metrics_after(2)
    assert folder.metrics.read_text(encoding="utf-8") == kept


def test_all_records_are_forgotten_after_step_zero(folder: RunFolder) -> None:
    folder.metrics.write_text('{"step": 1}\n')
    folder.forget_metrics_after(0)
    assert folder.metrics.read_bytes() == b""


def test_a_summary_reads_back_and_there_is_an_empty_one_before_the_end(folder: RunFolder) -> None:
    assert folder.read_summary() == {}
    folder.write_summary({"outcome": Outcome.DIVERGED, "error": "é", "final_val_loss": math.inf, "steps": 3})
    assert folder.read_summary() == {"outcome": "diverged", "error": "é", "final_val_loss": "Infinity", "steps": 3}
    folder.write_summary({"steps": 4})
    assert folder.summary.read_bytes() == b'{\n  "steps": 4\n}\n'


def test_an_existing_run_folder_is_one_with_a_configuration(folder: RunFolder) -> None:
    folder.config.touch()
    assert RunFolder.existing(str(folder.path), "resume") == folder


@pytest.mark.parametrize("name", ["empty", "missing", "file"])
def test_what_is_no_run_folder_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError) as caught:
        RunFolder.existing(tmp_path / name, "resume")
    line = str(caught.value)
    assert line.startswith("resume must name a run folder")
    assert f"'{tmp_path / name}'" in line
    assert "Type resume=" in line
    assert "\n" not in line


def test_an_unused_folder_goes_with_the_parents_that_it_leaves_empty(tmp_path: Path) -> None:
    make_files(tmp_path, "outputs/.gitkeep", "outputs/2000-01-01/12-00-00/.hydra/config.yaml")
    RunFolder(tmp_path / "outputs/2000-01-01/12-00-00").discard_if_unused()
    assert os.listdir(tmp_path / "outputs") == [".gitkeep"]


def test_parents_with_anything_else_stay(tmp_path: Path) -> None:
    make_files(tmp_path, "outputs/2000-01-01/12-00-00/.hydra/config.yaml", "outputs/2000-01-01/11-00-00/config.yaml")
    RunFolder(tmp_path / "outputs/2000-01-01/12-00-00").discard_if_unused()
    assert os.listdir(tmp_path / "outputs/2000-01-01") == ["11-00-00"]


def test_no_more_than_two_parents_go(tmp_path: Path) -> None:
    make_files(tmp_path, "mine/outputs/date/time/.hydra/config.yaml")
    RunFolder(tmp_path / "mine/outputs/date/time").discard_if_unused()
    assert os.listdir(tmp_path) == ["mine"]


def test_a_lock_does_not_make_a_folder_used(tmp_path: Path) -> None:
    make_files(tmp_path, "run/.hydra/config.yaml", "run/.lock")
    RunFolder(tmp_path / "run").discard_if_unused()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("other", ["metrics.jsonl", ".hidden", "checkpoints/step_1/state.json"])
def test_a_folder_that_holds_anything_else_stays_as_it_is(tmp_path: Path, other: str) -> None:
    make_files(tmp_path, "run/.hydra/config.yaml", f"run/{other}")
    RunFolder(tmp_path / "run").discard_if_unused()
    assert files_under(tmp_path) == sorted(["run/.hydra/config.yaml", f"run/{other}"])


def test_a_folder_without_notes_of_hydra_stays(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    RunFolder(tmp_path / "run").discard_if_unused()
    assert (tmp_path / "run").is_dir()


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("run", [".", "run", "outputs/run"])
def test_the_working_folder_stays_even_when_it_is_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str, absolute: bool
) -> None:
    here = tmp_path / "above" / "here"
    make_files(here, f"{run}/.hydra/config.yaml")
    monkeypatch.chdir(here)
    RunFolder(here / run if absolute else Path(run)).discard_if_unused()
    assert list(tmp_path.rglob("*")) == [tmp_path / "above", here]
