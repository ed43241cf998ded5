"""A run that is killed, anywhere and as often as you like, and resumed ends with the bytes of one that never was."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from tensorboard.plugins.hparams.api_pb2 import STATUS_SUCCESS  # type: ignore[attr-defined]  (made when imported)
from tests.app.forgetting import forget_tensors, forget_value
from tests.app.killing import ENTRY, SAID, AtCall, AtChange, Death, Runs
from tests.app.run_differences import differences, hparams_status

from normlab.core.run_folder import RunFolder

SMALL = (
    "model=micro", "tokenizer=bytes", "data=text", "data.train=[a.txt]", "data.valid=c.txt", "telemetry=full",
    "trainer.steps=14", "trainer.batch_size=2", "trainer.val_tokens=256", "trainer.val_every=7",
    "trainer.checkpoint_every=4", "schedule.warmup_steps=2", "optimizer.lr=3e-2", "task.sampler.max_tokens=40",
)  # fmt: skip
BEST_STEP = 7
STATEFUL = {
    "power iteration and momentum": ["model/linear=sigma_reparam", "optimizer=muon"],
    "heads that are rescaled": ["attention/qk_clip=rescale", "model/residual=rezero", "optimizer=lion"],
}
DIVERGING = ["optimizer.lr=10", "trainer.divergence.patience_steps=1", "trainer.divergence.smoothing=0"]
KILLED = -signal.SIGKILL
STEPS, VALIDATION = "normlab.app.training", "normlab.train.backpropagation.Backpropagation.cross_entropy"
GRADIENT, UPDATE = "normlab.train.step.clip_gradients", "normlab.model.language_model.LanguageModel.after_update"
SAVE_FILE = "normlab.train.checkpoint.save_file"
"""Of the weights; every second call is for the optimizer's state."""
NOTE = "hydra.core.utils.OmegaConf.to_yaml"
"""Between opening a file and writing it; the third is for the command line."""
LINK = "normlab.train.keeper.point_to"
LINE = "normlab.telemetry.growing_file.GrowingFile.append"
"""Of metrics.jsonl and of TensorBoard's events in turn, a few of which come before the first step."""

CHAINS: dict[str, list[AtCall]] = {
    "at the start and in a step": [
        AtCall(NOTE, nth=3),  # with nothing to resume yet
        AtCall(f"{STEPS}.write_whole"),
        AtCall(f"{STEPS}.write_whole", moment="after"),
        AtCall(GRADIENT, nth=3),  # before there is a checkpoint
        AtCall(UPDATE, nth=6),
        AtCall(f"{STEPS}.open_sinks"),
        AtCall(UPDATE, nth=6, moment="after"),
    ],
    "in a validation and in what is written of a step": [
        AtCall(VALIDATION, nth=2),
        AtCall(LINE, nth=8, moment="torn"),
        AtCall(LINE, nth=9, moment="torn"),
        AtCall("normlab.train.loop.validation_loss", moment="after"),
        AtCall("normlab.core.run_folder.RunFolder.forget_metrics_after", moment="after"),
        AtCall("normlab.telemetry.tensorboard.TensorBoardSink.record", nth=6),
        AtCall("normlab.telemetry.figures.write_whole", nth=2),  # at the end
    ],
    "in a checkpoint": [
        AtCall(SAVE_FILE, moment="torn"),
        AtCall(SAVE_FILE, nth=4, moment="torn"),  # of step 7, the best
        AtCall(LINK),
        AtCall(LINK, moment="after"),
        AtCall(LINK, nth=2, moment="after"),
    ],
    "at the end": [
        AtCall("normlab.model.sampling.Sampler.probabilities", nth=20),
        AtCall("normlab.app.sinks.Sinks.end", moment="after"),
        AtCall("normlab.core.run_folder.RunFolder.write_summary"),
        AtCall("normlab.core.run_folder.RunFolder.write_summary", moment="after"),
    ],
}


class Whole(NamedTuple):
    """A run that nobody killed, and how long it took."""

    run: RunFolder
    seconds: float


Laboratory = Callable[[], Path]
"""Makes a new folder with the data that every run is trained on."""


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    with Runs() as runs:
        yield runs


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Laboratory:
    def make() -> Path:
        folder = tmp_path_factory.mktemp("laboratory")
        (folder / "a.txt").write_text("The cat sat on the mat. " * 40 + "<|endoftext|>" + "A dog ran by. " * 40)
        (folder / "c.txt").write_text("0123456789 QUICK WIZARDS JUMP " * 40)  # the more is learnt the worse it gets
        return folder

    return make


@pytest.fixture(scope="module")
def whole(runs: Runs, laboratory: Laboratory) -> Whole:
    folder = laboratory()
    assert runs.to_the_end(folder, "--cfg", "job") == 0  # the server has imported everything by then
    started = time.perf_counter()
    run = live_through(runs, folder, [], SMALL)
    return Whole(run, time.perf_counter() - started)


def live_through(runs: Runs, folder: Path, deaths: Sequence[Death], arguments: Sequence[str]) -> RunFolder:
    """A run that dies of each of the deaths in turn, is started again each time, and then is let alone."""
    for death in deaths:
        code = runs.to_the_end(folder, *next_command(folder, arguments), death=death)
        assert code == (KILLED if isinstance(death, AtChange) or death.number == signal.SIGKILL else 128 + death.number)
    let_it_end(runs, folder, arguments)
    return RunFolder(folder / "run")


def let_it_end(runs: Runs, folder: Path, arguments: Sequence[str]) -> None:
    code = runs.to_the_end(folder, *next_command(folder, arguments))
    assert code == 0, (folder / SAID).read_text()


def next_command(folder: Path, arguments: Sequence[str]) -> list[str]:
    """What a person types after a kill: to resume, or the same again where there is nothing to resume yet.

    TensorBoard tells the order of its files by the second: wait until the last one's is over.
    """
    events = (folder / "run" / "tensorboard").glob("events.out.tfevents.*")
    last = max((int(path.name.split(".")[3]) for path in events), default=0)
    while int(time.time()) <= last:
        time.sleep(0.02)
    notes = folder / "run" / ".hydra" / "overrides.yaml"
    has_begun = notes.is_file() and notes.stat().st_size > 0
    return ["resume=run"] if has_begun else [*arguments, "hydra.run.dir=run"]


@pytest.mark.parametrize("place", CHAINS)
def test_a_run_killed_again_and_again_ends_with_the_same_bytes(
    place: str, runs: Runs, laboratory: Laboratory, whole: Whole
) -> None:
    killed = live_through(runs, laboratory(), CHAINS[place], SMALL)
    assert differences(whole.run, killed) == []


def test_it_may_die_between_any_two_changes_of_the_disk(runs: Runs, laboratory: Laboratory, whole: Whole) -> None:
    assert killed_at_changes(runs, laboratory(), whole, since="checkpoints", every=11) >= 2


def killed_at_changes(runs: Runs, folder: Path, whole: Whole, since: str, every: int) -> int:
    """How often a run was killed that dies later each time, until it lives to its end, the same as ever."""
    kills = 0
    while runs.to_the_end(folder, *next_command(folder, SMALL), death=AtChange(1 + every * kills, since)) == KILLED:
        kills += 1
    assert differences(whole.run, RunFolder(folder / "run")) == []
    return kills


def test_the_clock_may_choose(runs: Runs, laboratory: Laboratory, whole: Whole) -> None:
    folder, chance = laboratory(), random.Random(0)
    for _ in range(3):
        killed_by_the_clock(runs, folder, chance.uniform(0.4, 1.0) * whole.seconds, SMALL)
    let_it_end(runs, folder, SMALL)
    assert differences(whole.run, RunFolder(folder / "run")) == []


def killed_by_the_clock(runs: Runs, folder: Path, seconds: float, arguments: Sequence[str]) -> bool:
    """Whether the process still lived when its time was over."""
    process = runs.start(folder, *next_command(folder, arguments))
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    code = runs.wait()
    assert code in (0, KILLED), (folder / SAID).read_text()
    return code == KILLED


@pytest.mark.slow
def test_a_command_typed_at_a_terminal_is_no_different(laboratory: Laboratory, whole: Whole) -> None:
    """Started from nothing, as a person would, without the server."""
    folder = laboratory()
    run = RunFolder(folder / "run")
    command = [sys.executable, str(ENTRY)]
    with subprocess.Popen([*command, *SMALL, "hydra.run.dir=run"], cwd=folder) as process:
        while sum(1 for _ in run.read_metrics()) < 7:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    assert process.returncode == KILLED
    subprocess.run([*command, "resume=run"], cwd=folder, check=True)
    assert differences(whole.run, run) == []


@pytest.mark.parametrize("arm", STATEFUL)
def test_state_of_other_kinds_comes_back_too(arm: str, runs: Runs, laboratory: Laboratory) -> None:
    arguments = [*SMALL, *STATEFUL[arm]]
    whole = live_through(runs, laboratory(), [], arguments)
    assert differences(whole, live_through(runs, laboratory(), [AtCall(GRADIENT, nth=10)], arguments)) == []


def test_a_run_that_had_not_noted_its_command_line_is_not_taken_for_another(runs: Runs, laboratory: Laboratory) -> None:
    folder = laboratory()
    assert runs.to_the_end(folder, *next_command(folder, SMALL), death=AtCall(NOTE, nth=3)) == KILLED
    assert (folder / "run" / ".hydra" / "overrides.yaml").read_text() == ""
    assert runs.to_the_end(folder, *SMALL, "resume=run") == 2


def test_tensorboard_is_told_of_the_last_end_alone(runs: Runs, laboratory: Laboratory) -> None:
    polite = AtCall(GRADIENT, number=signal.SIGTERM)
    assert hparams_status(live_through(runs, laboratory(), [polite], [*SMALL, "trainer.steps=3"])) == STATUS_SUCCESS


def test_a_run_that_diverged_keeps_its_ending(runs: Runs, laboratory: Laboratory) -> None:
    arguments = [*SMALL, *DIVERGING]
    whole = live_through(runs, laboratory(), [], arguments)
    assert whole.read_summary()["outcome"] == "diverged"
    deaths = [AtCall("normlab.core.run_folder.RunFolder.write_summary")]
    assert differences(whole, live_through(runs, laboratory(), deaths, arguments)) == []


def test_asked_politely_it_ends_with_the_same_bytes_too(runs: Runs, laboratory: Laboratory, whole: Whole) -> None:
    polite = AtCall(GRADIENT, nth=3, number=signal.SIGTERM)
    killed = live_through(runs, laboratory(), [polite, AtCall(UPDATE, nth=5)], SMALL)
    assert differences(whole.run, killed) == []


# What must be noticed: each takes one piece away from the checkpoint at step 8.

MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"
FORGOTTEN = {
    "second moments": (forget_tensors(OPTIMIZER, "/exp_avg_sq", 0.0), "metrics.jsonl line 9: update_norm/head"),
    "all that the optimizer knew": (forget_tensors(OPTIMIZER, "", None), "metrics.jsonl line 9: update_norm/head"),
    "one weight": (forget_tensors(MODEL, "head.weight", 0.0), "metrics.jsonl line 9: train_loss"),
    "tokens": (forget_value("tokens", 0), "metrics.jsonl line 9: tokens"),
    "initial loss": (forget_value("history.initial_loss", None), "summary.json: initial_loss"),
    "average loss": (forget_value("history.average", 0.0), "state.json: history"),
    "best validation": (forget_value("best_val_loss", None), "checkpoints/best -> "),
}


@pytest.fixture(scope="module")
def dead(runs: Runs, laboratory: Laboratory) -> Path:
    """The folder of a run that died in step 10."""
    folder = laboratory()
    assert runs.to_the_end(folder, *next_command(folder, SMALL), death=AtCall(GRADIENT, nth=10)) == KILLED
    return folder


@pytest.mark.parametrize("piece", FORGOTTEN)
def test_a_piece_of_state_that_is_lost_is_noticed(
    piece: str, dead: Path, runs: Runs, whole: Whole, tmp_path: Path
) -> None:
    forget, told = FORGOTTEN[piece]
    folder = tmp_path / "laboratory"
    shutil.copytree(dead, folder, symlinks=True)
    checkpoint = (folder / "run" / "checkpoints" / "last").resolve()
    assert checkpoint.name == "step_8"
    forget(checkpoint)
    let_it_end(runs, folder, SMALL)
    assert any(told in line for line in differences(whole.run, RunFolder(folder / "run")))


# By hand: pytest -m slow -s tests/app/test_kill.py

NUM_KILLS = 200
LARGEST_CALL = {GRADIENT: 14, UPDATE: 14, LINE: 30, VALIDATION: 8, SAVE_FILE: 10, LINK: 14}


@pytest.mark.slow
def test_every_change_of_the_disk(runs: Runs, laboratory: Laboratory, whole: Whole) -> None:
    kills = killed_at_changes(runs, laboratory(), whole, since="", every=1)
    print(f"\n{kills} kills, each before a change of the disk, the first to the last")


@pytest.mark.slow
def test_two_hundred_kills(runs: Runs, laboratory: Laboratory, whole: Whole) -> None:
    chance = random.Random(0)
    points = [point for chain in CHAINS.values() for point in chain]
    arms = [[], *STATEFUL.values()]
    peers = [whole, *(Whole(live_through(runs, laboratory(), [], [*SMALL, *arm]), whole.seconds) for arm in arms[1:])]
    kills: Counter[str] = Counter()
    num_runs = num_processes = 0
    while kills.total() < NUM_KILLS:
        arm, peer = chance.choice(list(zip(arms, peers, strict=True)))
        folder, arguments = laboratory(), [*SMALL, *arm]
        for _ in range(chance.randint(1, 12)):
            kind = chance.choice(["by the clock", "before a change of the disk", "call", "call"])
            if kind == "by the clock":
                was_killed = killed_by_the_clock(runs, folder, chance.uniform(0, 1) * peer.seconds, arguments)
            else:
                death: Death = AtChange(chance.randint(1, 150))
                if kind == "call":
                    point = chance.choice(points)
                    death = replace(point, nth=chance.randint(1, LARGEST_CALL.get(point.function, point.nth)))
                    kind = f"{point.moment} {point.function}"
                code = runs.to_the_end(folder, *next_command(folder, arguments), death=death)
                assert code in (0, KILLED), (folder / SAID).read_text()
                was_killed = code == KILLED
            num_processes += 1
            kills[kind] += was_killed
            if not was_killed:
                break
        let_it_end(runs, folder, arguments)
        num_processes, num_runs = num_processes + 1, num_runs + 1
        assert differences(peer.run, RunFolder(folder / "run")) == [], f"{folder}: {kills}"
        shutil.rmtree(folder)
    print(f"\n{kills.total()} kills in {num_runs} runs, {num_processes} processes: all ended with the same bytes")
    print("\n".join(f"{count:5}  {kind}" for kind, count in kills.most_common()))
