"""Which checkpoints stay, that none is ever not finite, the way back, and kills at every moment."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from normlab.core.errors import CheckpointError
from normlab.core.records import Outcome
from normlab.core.run_folder import RunFolder
from normlab.model.language_model import LanguageModel
from normlab.optim.adamw import adamw
from normlab.train import checkpoint
from normlab.train.checkpoint import read_state
from normlab.train.intact import newest_intact
from normlab.train.keeper import CheckpointKeeper
from normlab.train.state import RunState


@pytest.fixture
def keeper(micro: LanguageModel, tmp_path: Path) -> CheckpointKeeper:
    optimizer = adamw(micro, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    return CheckpointKeeper(tmp_path / "run" / "checkpoints", micro, optimizer)


def save(keeper: CheckpointKeeper, step: int, *, is_best: bool = False, outcome: Outcome | None = None) -> bool:
    return keeper.save(step, RunState(step=step, outcome=outcome).as_dict(), is_best=is_best)


def links(keeper: CheckpointKeeper) -> dict[str, str]:
    return {path.name: os.readlink(path) for path in keeper.folder.iterdir() if path.is_symlink()}


def steps(keeper: CheckpointKeeper) -> list[int]:
    names = [path.name for path in keeper.folder.iterdir() if not path.is_symlink()]
    return sorted(int(name.removeprefix("step_")) for name in names)


def weight(keeper: CheckpointKeeper) -> torch.Tensor:
    return next(iter(keeper.model.parameters())).data.view(-1)[-1:]


def take_step(keeper: CheckpointKeeper) -> None:
    tokens = torch.randint(64, (2, 8), generator=torch.Generator().manual_seed(0))
    keeper.model(tokens).square().mean().backward()
    keeper.optimizer.step()
    keeper.optimizer.zero_grad()


def test_last_and_last_finite_move_and_best_moves_if_told(keeper: CheckpointKeeper) -> None:
    assert save(keeper, 1)
    assert links(keeper) == {"last": "step_1", "last_finite": "step_1"}
    save(keeper, 2, is_best=True)
    assert links(keeper) == {"last": "step_2", "last_finite": "step_2", "best": "step_2"}
    save(keeper, 3)
    assert links(keeper) == {"last": "step_3", "last_finite": "step_3", "best": "step_2"}
    assert read_state(keeper.folder / "last")["step"] == 3
    assert read_state(keeper.folder / "best")["step"] == 2


def test_what_a_link_points_to_and_the_one_before_the_last_stay(keeper: CheckpointKeeper) -> None:
    kept = []
    for step in (1, 2, 3, 10, 11):
        save(keeper, step, is_best=step in (2, 11))
        kept.append(steps(keeper))
    assert kept == [[1], [1, 2], [2, 3], [2, 3, 10], [10, 11]]


@pytest.mark.parametrize(("every", "reach"), [(1, 7), (3, 7), (10, 7), (2, 2), (1, 0)])
def test_there_is_always_one_from_before_the_reach_and_few_others(
    keeper: CheckpointKeeper, every: int, reach: int
) -> None:
    keeper.reach_steps = reach
    save(keeper, 0)
    for step in range(every, 61, every):
        save(keeper, step)
        kept = steps(keeper)
        assert len(kept) <= 4
        far = [found for found in kept if found <= step - reach]
        oldest = max(0, step - 2 * (reach + every))
        assert min(kept) == 0 if step < reach else far and far[-1] >= oldest, (step, kept)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_written(keeper: CheckpointKeeper, value: float) -> None:
    take_step(keeper)
    save(keeper, 1)
    parameter = next(iter(keeper.model.parameters()))
    for tensor in (parameter.data, keeper.optimizer.state[parameter]["exp_avg_sq"]):
        before = tensor.clone()
        tensor.view(-1)[-1] = value
        assert not save(keeper, 2, is_best=True)
        assert links(keeper) == {"last": "step_1", "last_finite": "step_1"}
        assert steps(keeper) == [1]
        tensor.copy_(before)
    assert save(keeper, 2)


def test_values_whose_squares_overflow_are_finite(keeper: CheckpointKeeper) -> None:
    weight(keeper).fill_(3e38)
    assert save(keeper, 1)


def test_a_crash_while_saving_leaves_links_and_checkpoints(
    keeper: CheckpointKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError("no space left")

    save(keeper, 1, is_best=True)
    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        save(keeper, 2, is_best=True)
    assert links(keeper) == {"last": "step_1", "last_finite": "step_1", "best": "step_1"}
    assert steps(keeper) == [1]


def test_files_of_others_in_the_folder_stay(keeper: CheckpointKeeper, tmp_path: Path) -> None:
    save(keeper, 1)
    others = ["notes", "step_x", "step_", "step_-1", "step_01234567890123456"]
    for name in others:
        (keeper.folder / name).mkdir()
    (tmp_path / "elsewhere").mkdir()
    (keeper.folder / "step_0").symlink_to(tmp_path / "elsewhere")
    for step in (2, 3, 4):
        save(keeper, step)
    names = {path.name for path in keeper.folder.iterdir()}
    assert names == {*others, "step_0", "step_3", "step_4", "last", "last_finite"}


def test_restoring_fills_in_place_from_the_newest_of_at_most_a_step(keeper: CheckpointKeeper) -> None:
    keeper.reach_steps = 5
    model, parameters = keeper.model, list(keeper.model.parameters())
    saved = {}
    for step in (0, 2, 4, 6):
        take_step(keeper)
        weight(keeper).fill_(float(step))
        saved[step] = [parameter.clone() for parameter in parameters]
        moments = [keeper.optimizer.state[parameter]["exp_avg"].clone() for parameter in parameters]
        saved[step] += moments
        save(keeper, step)
    assert steps(keeper) == [0, 2, 4, 6]
    for before_step, expected in ((5, 4), (3, 2), (1, 0)):
        assert keeper.restore(before_step)["step"] == expected
        assert links(keeper) == {"last": f"step_{expected}", "last_finite": f"step_{expected}"}
        assert max(steps(keeper)) == expected  # what came after led to the trouble
        now = [*parameters, *[keeper.optimizer.state[parameter]["exp_avg"] for parameter in parameters]]
        assert all(map(torch.equal, now, saved[expected]))
    assert keeper.model is model and list(model.parameters()) == parameters


def test_restoring_passes_over_what_is_damaged_and_what_an_interruption_left(keeper: CheckpointKeeper) -> None:
    keeper.reach_steps = 9
    for step in (1, 2, 3):
        weight(keeper).fill_(float(step))
        save(keeper, step, outcome=Outcome.INTERRUPTED if step == 3 else None)
    (keeper.folder / "step_2" / "optimizer.safetensors").write_bytes(b"")
    assert keeper.restore(3)["step"] == 1
    assert weight(keeper).item() == 1


def test_restoring_keeps_the_best(keeper: CheckpointKeeper) -> None:
    save(keeper, 1)
    save(keeper, 2, is_best=True)
    save(keeper, 3)
    keeper.reach_steps = 9
    with pytest.raises(CheckpointError, match="of step 0 or before"):
        keeper.restore(0)
    assert steps(keeper) == [2, 3] and links(keeper)["last"] == "step_3"
    assert keeper.restore(2)["step"] == 2
    assert links(keeper)["best"] == "step_2"


def test_best_is_no_more_when_another_course_reaches_its_step(keeper: CheckpointKeeper) -> None:
    keeper.reach_steps = 9
    save(keeper, 1)
    save(keeper, 2, is_best=True)
    keeper.restore(1)
    assert steps(keeper) == [1, 2] and links(keeper)["best"] == "step_2"
    save(keeper, 2)
    assert "best" not in links(keeper)


def test_nothing_is_changed_where_nothing_can_be_restored(keeper: CheckpointKeeper) -> None:
    save(keeper, 1)
    (keeper.folder / "step_1" / "state.json").unlink()
    weight(keeper).fill_(5.0)
    with pytest.raises(CheckpointError, match="No intact checkpoint"):
        keeper.restore(1)
    assert weight(keeper).item() == 5 and steps(keeper) == [1]


def test_an_interruption_changes_nothing_of_what_is_kept_later(keeper: CheckpointKeeper, micro, tmp_path: Path) -> None:
    other = CheckpointKeeper(tmp_path / "other", micro, keeper.optimizer)
    for one in (keeper, other):
        one.reach_steps = 5
        for step in range(0, 21, 2):
            save(one, step)
            if one is other and step % 6 == 0:
                save(one, step + 1, outcome=Outcome.INTERRUPTED)
    assert steps(keeper) == steps(other)


def test_resuming_from_an_older_one_makes_the_links_its_own(keeper: CheckpointKeeper) -> None:
    save(keeper, 1, is_best=True)
    save(keeper, 2, is_best=True)
    keeper.resume_from(keeper.folder / "step_1", is_best=True)
    assert links(keeper) == {"last": "step_1", "last_finite": "step_1", "best": "step_1"}


# Saves checkpoints 1 to 4 in a forked process that is killed at its n-th change of the disk, for every n.
KILLED_SAVERS = """
import os, signal, sys
from pathlib import Path
from torch import nn, optim
from normlab.train.keeper import CheckpointKeeper
from normlab.train.state import RunState

optim.SGD(nn.Linear(1, 1).parameters(), lr=0.1)  # all that is slow to import, before the forks
CHANGES = ("open", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.mkdir", "os.chmod")

def save_and_die(folder, moment):
    num_changes = 0
    def count(event, arguments):
        nonlocal num_changes
        if event in CHANGES and (event != "open" or arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            if num_changes == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            num_changes += 1
    model = nn.Linear(2, 2)
    keeper = CheckpointKeeper(folder, model, optim.SGD(model.parameters(), lr=0.1))
    keeper.save(1, RunState(step=1).as_dict(), is_best=True)
    sys.addaudithook(count)
    for step in (2, 3, 3):
        keeper.save(step, RunState(step=step).as_dict(), is_best=step == 2)
    os._exit(0)

for moment in range(10_000):
    child = os.fork()
    if child == 0:
        save_and_die(Path(sys.argv[1]) / str(moment) / "checkpoints", moment)
    if os.waitpid(child, 0)[1] == 0:
        break
print(moment)
"""


@pytest.fixture
def killed(tmp_path: Path) -> Iterator[list[Path]]:
    script = [sys.executable, "-c", KILLED_SAVERS, str(tmp_path)]
    said = subprocess.run(script, check=True, capture_output=True, text=True, timeout=300)
    yield [tmp_path / str(moment) for moment in range(int(said.stdout))]


def test_a_kill_at_any_moment_of_saving_leaves_a_run_that_can_be_resumed(killed: list[Path]) -> None:
    assert len(killed) > 40
    seen, notes = set(), []
    for run in killed:
        folder = RunFolder(run)
        folder.clear_leftovers()
        names = [path.name for path in folder.checkpoints.iterdir()]
        assert not [name for name in names if name.startswith(".")]
        for link in ("last", "last_finite", "best"):
            read_state(folder.checkpoints / link)
        found = newest_intact(folder.checkpoints, notes.append)
        assert found is not None
        assert found.path == (folder.checkpoints / "last").resolve()
        seen.add(found.state.step)
    assert seen == {1, 2, 3} and not notes
