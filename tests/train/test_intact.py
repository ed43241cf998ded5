"""Which checkpoint a path means, and which is gone on from when some are damaged."""

import os
from pathlib import Path

import pytest

from normlab.core.errors import CheckpointError
from normlab.model.language_model import LanguageModel
from normlab.optim.adamw import adamw
from normlab.train.intact import find_checkpoint, newest_intact, run_of_checkpoint, target_of
from normlab.train.keeper import CheckpointKeeper
from normlab.train.state import RunState


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def run(micro: LanguageModel, tmp_path: Path) -> Path:
    """A run folder with the checkpoints 1 (best), 2 and 3."""
    optimizer = adamw(micro, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    keeper = CheckpointKeeper(tmp_path / "run" / "checkpoints", micro, optimizer)
    for step in (1, 2, 3):
        keeper.save(step, RunState(step=step).as_dict(), is_best=step == 1)
    return (tmp_path / "run").resolve()


def damage(run: Path, step: int) -> None:
    path = run / "checkpoints" / f"step_{step}" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_a_path_means_a_checkpoint_or_the_last_one_of_a_run(run: Path, said: list[str]) -> None:
    folder = run / "checkpoints"
    for path, step in ((run, 3), (folder / "step_1", 1), (folder / "best", 1), (folder / "last", 3)):
        found = find_checkpoint(path, said.append)
        assert found == folder / f"step_{step}"
        assert run_of_checkpoint(found) == run
    assert said == []


def test_links_survive_a_move_of_the_run_folder(run: Path, tmp_path: Path, said: list[str]) -> None:
    os.rename(run, tmp_path / "moved")
    assert find_checkpoint(tmp_path / "moved", said.append) == tmp_path.resolve() / "moved/checkpoints/step_3"


def test_a_relative_path_is_found_too(run: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.chdir(run / "checkpoints")
    assert run_of_checkpoint(find_checkpoint(Path("last"), said.append)) == run


def test_damaged_ones_are_passed_over_newest_first_which_is_said(run: Path, said: list[str]) -> None:
    folder = run / "checkpoints"
    damage(run, 3)
    assert find_checkpoint(run, said.append) == folder / "step_2"
    broken = f"{folder / 'step_3' / 'model.safetensors'} is missing or was altered."
    assert said == [f"note: {broken} Falling back to step_2."]
    (folder / "step_2" / "manifest.json").unlink()
    said.clear()
    assert find_checkpoint(run, said.append) == folder / "step_1"
    assert len(said) == 2 and all(line.endswith("Falling back to step_1.") and "\n" not in line for line in said)


def test_where_all_are_damaged_the_newest_is_named(run: Path, said: list[str]) -> None:
    for step in (1, 2, 3):
        damage(run, step)
    with pytest.raises(CheckpointError, match=r"^No checkpoint in .* The newest: .*step_3/model") as caught:
        newest_intact(run / "checkpoints", said.append)
    assert "\n" not in str(caught.value) and said == []


def test_a_checkpoint_that_is_named_is_never_replaced_by_another(run: Path, said: list[str]) -> None:
    damage(run, 3)
    assert find_checkpoint(run / "checkpoints" / "step_3", said.append).name == "step_3"


def test_the_last_comes_before_one_that_no_link_has_come_to(run: Path, said: list[str]) -> None:
    folder = run / "checkpoints"
    for link in ("last", "last_finite"):
        (folder / link).unlink()
        (folder / link).symlink_to("step_2")
    assert find_checkpoint(run, said.append) == folder / "step_2"
    damage(run, 2)
    assert find_checkpoint(run, said.append) == folder / "step_1"
    damage(run, 1)
    assert find_checkpoint(run, said.append) == folder / "step_3"


@pytest.mark.parametrize("target", [None, "step_9", "../../elsewhere/step_9", "/", "last", ".", "step_3/../../x"])
def test_a_last_that_points_to_nothing_or_elsewhere_is_not_followed(
    run: Path, tmp_path: Path, said: list[str], target: str | None
) -> None:
    link = run / "checkpoints" / "last"
    link.unlink()
    if target is not None:
        (tmp_path / "elsewhere").mkdir()
        os.rename(run / "checkpoints" / "step_1", tmp_path / "elsewhere" / "step_9")
        link.symlink_to(target)
    assert target_of(link) is None
    assert find_checkpoint(run, said.append) == run / "checkpoints" / "step_3"


def test_a_checkpoint_that_is_a_link_is_none_of_the_runs(run: Path, said: list[str]) -> None:
    folder = run / "checkpoints"
    (folder / "step_7").symlink_to("step_1")
    (folder / "last").unlink()
    assert find_checkpoint(run, said.append) == folder / "step_3"


def test_a_run_that_saved_no_checkpoint_is_told_as_such(tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "metrics.jsonl").touch()
    assert newest_intact(tmp_path / "checkpoints", said.append) is None
    with pytest.raises(CheckpointError, match="ended before its first"):
        find_checkpoint(tmp_path, said.append)


@pytest.mark.parametrize("name", ["missing", "empty", "empty/checkpoints", "file"])
def test_a_path_without_a_checkpoint_is_refused_in_one_line(tmp_path: Path, name: str, said: list[str]) -> None:
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError) as caught:
        find_checkpoint(tmp_path / name, said.append)
    line = str(caught.value)
    assert line.startswith("checkpoint must name a run folder that has saved a checkpoint, or a checkpoint itself;")
    assert f"'{tmp_path / name}'" in line
    assert "\n" not in line
