"""Autopsies of real deaths and of planted ones: how runs come to their end, what is kept of it, what is refused."""

import math
import os
import signal
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.app.planted import AGAIN, QUIET, RUN, SMALL, autopsy_of, planted
from tests.app.planting import planted_error
from torch import nn

from normlab.app.build import build_model
from normlab.core.run_folder import RunFolder
from normlab.model.loss import Loss, Objective
from normlab.train.backpropagation import Batch
from normlab.train.loop import training_records

DYING = (*planted("large_logits"), RUN)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Where the runs of this file write."""
    return RunFolder(tmp_path / "run")


def recomputed(run: RunFolder) -> dict[int, float | str]:
    return {record["step"]: record["train_loss"] for record in run.read_recomputed_steps()}


def taken(run: RunFolder) -> dict[int, float | str]:
    return {record["step"]: record["train_loss"] for record in run.read_metrics()}


def test_a_real_death_of_the_naive_softmax(command, text_data, run: RunFolder) -> None:
    """Nothing planted: no norm, a softmax that can overflow, a rate that makes it."""
    mortal = ("model/norm=none", "attention/softmax=naive", "optimizer.lr=3e-2", "trainer.steps=60")
    said = command(*SMALL, *mortal, *text_data, QUIET, RUN)
    assert said.exit_code == 0, said.err
    autopsy = autopsy_of(run)
    finding = autopsy["finding"]
    assert (finding["phase"], finding["site"], finding["kind"]) == (
        "forward", "attention.attend.softmax", "exp_overflow",
    )  # fmt: skip
    assert finding["inputs"][0]["largest"] > math.log(torch.finfo(torch.float32).max)
    assert autopsy["step"] > 1
    assert f"the exponential in the attention softmax of layer {finding['layer']}" in " ".join(said.out.split())
    assert autopsy["advice"]["suggestions"][0]["choice"] == "attention/softmax=stable"
    assert recomputed(run) == taken(run)


def test_a_loss_that_left_has_a_story_and_no_finding(command, text_data, run: RunFolder) -> None:
    wild = ("optimizer.lr=1", "trainer.divergence.patience_steps=5", "trainer.steps=40")
    said = command(*SMALL, *wild, *text_data, QUIET, RUN)
    assert said.exit_code == 0, said.err
    autopsy = autopsy_of(run)
    assert said.out.startswith(f"diverged at step {autopsy['step']}: the loss was finite")
    assert (autopsy["finding"], autopsy["replayed"]) == (None, None)
    assert autopsy["story"]["growths"] or autopsy["story"]["crossings"]
    assert not run.bundle.exists()

    again = command(*AGAIN)
    assert again.exit_code == 0, again.err
    assert again.out.startswith(said.out[: said.out.index("\n")])
    assert autopsy_of(run)["story"] == autopsy["story"]


def test_the_last_of_several_deaths_is_examined(command, text_data, run: RunFolder) -> None:
    lenient = ("on_instability=continue", "on_instability.max_in_a_row=2")
    said = command(*planted("large_logits", steps=8), *lenient, *text_data, QUIET, RUN)
    assert said.exit_code == 0, said.err
    autopsy = autopsy_of(run)
    assert (autopsy["step"], autopsy["finding"]["kind"]) == (4, "exp_overflow")
    assert recomputed(run) == taken(run)
    assert [loss for loss in taken(run).values() if loss == "NaN"] == ["NaN", "NaN"]


@pytest.mark.parametrize("cause", ["large_logits", "large_moment"])
def test_steps_are_taken_again_from_after_the_last_return_on(cause: str, command, text_data, run: RunFolder) -> None:
    """Back to the start after step 3, and two good steps later the same death again: step 6."""
    policy = ("on_instability=rollback", "on_instability.max_rollbacks=1", "trainer.checkpoint_every=0")
    said = command(*planted(cause, steps=8), *policy, *text_data, QUIET, RUN)
    assert said.exit_code == 0, said.err
    assert [event["action"] for event in run.read_summary()["instabilities"]] == ["went back", "stopped"]
    autopsy = autopsy_of(run)
    assert (autopsy["step"], autopsy["finding"]["layer"]) == (6, 1)
    assert "the steps from 4 on were taken again" in autopsy["statistics"]
    assert autopsy["statistics"].endswith("agree with the run's to the bit")
    assert recomputed(run) == {step: loss for step, loss in taken(run).items() if step >= 4}
    finding = autopsy["finding"]
    assert command(*AGAIN).exit_code == 0
    assert autopsy_of(run)["finding"] == finding


@pytest.mark.parametrize(
    ("cause", "recompute_steps", "copy_every", "steps", "replayed"),
    [
        ("large_logits", 0, 100, [3], "from the run's own weights and moments"),
        ("large_moment", 0, 100, [1, 2, 3], "from weights recomputed since step 0"),
        ("large_moment", 1, 1, [3], "from weights recomputed since step 2"),
    ],
)
def test_what_is_taken_again(
    cause: str, recompute_steps: int, copy_every: int, steps: list[int], replayed: str,
    command, text_data, run: RunFolder,
) -> None:  # fmt: skip
    settings = (f"autopsy.recompute_steps={recompute_steps}", f"autopsy.copy_every={copy_every}")
    assert command(*planted(cause), *settings, *text_data, QUIET, RUN).exit_code == 0
    autopsy = autopsy_of(run)
    assert list(recomputed(run)) == steps
    assert autopsy["replayed"] == replayed
    assert autopsy["finding"]["layer"] == 1
    if steps == [3]:
        assert autopsy["statistics"] == "the step that ended the run, 3, was taken again with all of it read"


def test_token_files_that_kill_in_the_first_step(command, run: RunFolder, tmp_path: Path) -> None:
    for name in ("train.bin", "valid.bin"):
        (np.arange(4_000) % 50).astype("<u2").tofile(tmp_path / name)
    data = ("data=tokens", "data.train=[train.bin]", "data.valid=[valid.bin]", "data.tokenizer=50")
    huge = ("model/norm=none", "init.scale.factor=1e38", "init.scale.roles=[ffn_down]", "trainer.steps=4")
    small = [text for text in SMALL if not text.startswith("tokenizer")]
    said = command(*small, *huge, *data, QUIET, RUN)
    assert said.exit_code == 0, said.err
    autopsy = autopsy_of(run)
    assert autopsy["step"] == 1
    assert (autopsy["finding"]["layer"], autopsy["finding"]["site"]) == (0, "ffn.down")
    assert "It was the first step: nothing came before it." in " ".join(said.out.split())
    assert command(*AGAIN).exit_code == 0
    assert autopsy_of(run)["finding"] == autopsy["finding"]


def test_a_death_right_after_going_on(command, text_data, run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted_records(*parts: Any, **settings: Any) -> Any:
        for record in training_records(*parts, **settings):
            if record.step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield record

    with monkeypatch.context() as patch:
        patch.setattr("normlab.app.training.training_records", interrupted_records)
        assert command(*DYING, *text_data, QUIET).exit_code == 143
    assert not run.autopsy_json.exists()
    assert command("resume=run", "allow_targets=[tests]").exit_code == 0
    autopsy = autopsy_of(run)
    assert (autopsy["step"], autopsy["finding"]["kind"], autopsy["finding"]["layer"]) == (3, "exp_overflow", 1)
    assert recomputed(run) == taken(run)


def test_tensorboard_has_the_text_and_the_picture(command, text_data, run: RunFolder) -> None:
    def events() -> EventAccumulator:
        return EventAccumulator(str(run.tensorboard), {"scalars": 0, "tensors": 0, "images": 0}).Reload()

    assert command(*DYING, *text_data).exit_code == 0
    before = events()
    (text,) = before.Tensors("autopsy/text_summary")
    assert text.step == 3
    written = text.tensor_proto.string_val[0].decode()
    assert written.startswith("# Autopsy: nonfinite at step 3: the training loss is nan.")
    (image,) = before.Images("autopsy/autopsy_growth")
    assert image.encoded_image_string == (run.figures / "autopsy_growth.png").read_bytes()

    assert command(*AGAIN).exit_code == 0
    after = events()
    assert after.Tags()["scalars"] == before.Tags()["scalars"], "the ending stays"
    for tag in before.Tags()["scalars"]:
        assert repr(after.Scalars(tag)) == repr(before.Scalars(tag)), "repr, for nan is not nan"
    assert len(after.Tensors("autopsy/text_summary")) == len(after.Images("autopsy/autopsy_growth")) == 2


@pytest.mark.parametrize("function", ["replay", "write_autopsy"])
def test_the_result_stands_where_its_autopsy_fails(
    function: str, command, text_data, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted_error(monkeypatch, f"normlab.app.deaths.{function}", RuntimeError("a planted fault\nof two lines"))
    said = command(*DYING, *text_data, QUIET)
    assert said.exit_code == 0
    assert "note: the autopsy failed (RuntimeError: a planted fault of two lines)." in said.err
    assert "Traceback" not in said.err
    assert said.out.startswith("nonfinite")
    summary = run.read_summary()
    assert (summary["outcome"], summary["outcome_step"], summary["error"]) == ("nonfinite", 3, None)
    assert summary["instabilities"][-1]["what"] == "the training loss is nan"
    assert not run.autopsy_json.exists() and not run.autopsy_markdown.exists()


def test_a_death_that_only_compiled_code_dies_is_told_as_such(
    command, text_data, run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code gives NaN in step 3, the same operations one by one do not."""

    calls = count(1)

    def miscompiled(model: nn.Module, loss: Loss, batch: Batch) -> Objective:
        logits_BTV = model(batch.inputs_BT)
        return loss(logits_BTV * math.nan if next(calls) == 3 else logits_BTV, batch.targets_BT)

    monkeypatch.setattr("normlab.train.backpropagation.compiled_objective", lambda cuda_graphs: miscompiled)
    harmless = (*planted("zero_row", after_step=99), "trainer.compile=true")
    said = command(*harmless, *text_data, QUIET, RUN)
    assert said.exit_code == 0, said.err
    autopsy = autopsy_of(run)
    assert (autopsy["outcome"], autopsy["step"], autopsy["finding"]) == ("nonfinite", 3, None)
    plainly = "without torch.compile, the step stayed finite: the first non-finite value is not known"
    assert plainly in " ".join(said.out.split())
    assert plainly in run.autopsy_markdown.read_text()
    assert command(*AGAIN).exit_code == 0
    assert plainly in run.autopsy_markdown.read_text()


@pytest.mark.parametrize("recompute_steps", [0, 100])
def test_a_validation_that_is_not_finite_is_replayed_on_its_batch(
    command, text_data, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recompute_steps: int
) -> None:
    """The embedding of a byte that only the validation text has is too large for any product."""
    (tmp_path / "c.txt").write_text("The dog sat on the ~ cat. " * 40)

    def with_large_row(*arguments: Any) -> nn.Module:
        model = build_model(*arguments)
        with torch.no_grad():
            model.token_embedding.weight[ord("~")] = 3e38
        return model

    for module in ("build", "deaths"):
        monkeypatch.setattr(f"normlab.app.{module}.build_model", with_large_row)
    mortal = ("model/norm=none", "trainer.val_every=2", f"autopsy.recompute_steps={recompute_steps}")
    said = command(*SMALL, *mortal, *text_data, QUIET, RUN)
    assert said.exit_code == 0, said.err
    assert said.out.startswith("nonfinite at step 2: the validation loss is nan.")
    assert run.read_summary()["instabilities"][-1]["what"] == "the validation loss is nan"
    autopsy = autopsy_of(run)
    assert (autopsy["step"], autopsy["finding"]["phase"], autopsy["finding"]["layer"]) == (2, "forward", 0)
    assert recomputed(run) == (taken(run) if recompute_steps > 0 else {})
    assert command(*AGAIN, QUIET).exit_code == 0
    assert autopsy_of(run)["finding"] == autopsy["finding"]
