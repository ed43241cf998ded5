"""task=train through the command line: what a run folder holds, how runs end, how they resume."""

import json
import math
import os
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from normlab.app.canonical import fingerprint_of
from normlab.core.run_folder import RunFolder
from normlab.train.loop import training_records

SMALL = ("model=micro", "tokenizer=bytes", "trainer.steps=4", "trainer.val_tokens=256", "schedule.warmup_steps=1")
FATAL = ("model/norm=none", "init.scale.factor=1e30", "init.scale.roles=[ffn_down]")


def only_run(folder: Path) -> RunFolder:
    (summary,) = folder.glob("**/summary.json")
    return RunFolder(summary.parent)


def events(run: RunFolder) -> EventAccumulator:
    accumulator = EventAccumulator(str(run.tensorboard), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def test_a_run_folder_holds_what_the_design_lists(command, text_data, tmp_path: Path) -> None:
    said = command(*SMALL, *text_data, "trainer.val_every=2", "trainer.checkpoint_every=2")

    assert said.exit_code == 0
    assert said.out.startswith("completed: validation loss")
    assert "tensorboard --logdir outputs/" in said.out
    run = only_run(tmp_path)
    records = list(run.read_metrics())
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert [record["step"] for record in records if "val_loss" in record] == [2, 4]
    assert {"step", "tokens", "seconds", "lr", "train_loss", "grad_norm"} <= records[0].keys()
    assert records[-1]["tokens"] == 4 * 8 * 32

    summary = run.read_summary()
    assert summary["outcome"] == "completed"
    assert summary["outcome_step"] == summary["steps"] == 4
    assert summary["initial_loss"] == records[0]["train_loss"]
    assert summary["final_val_loss"] == records[-1]["val_loss"]
    assert summary["best_val_loss"] == min(record["val_loss"] for record in records if "val_loss" in record)
    assert summary["num_parameters"] == sum(
        weight.numel() for weight in load_file(run.checkpoints / "last" / "model.safetensors").values()
    )
    assert {"tokens_per_second", "fingerprint", "versions", "git_commit", "hardware"} <= summary.keys()

    assert (run.path / ".hydra" / "overrides.yaml").is_file()
    assert (run.checkpoints / "last").resolve().name == "step_4"
    assert (run.checkpoints / "best").exists() and (run.checkpoints / "last_finite").exists()
    assert run.samples.read_text().strip() or run.samples.read_text() == "\n"
    assert not list(run.path.rglob("*.p*t")) and not list(run.path.rglob("*.pkl"))

    tags = events(run).Tags()
    wanted = {"loss/train", "loss/val", "lr", "grad_norm/total", "throughput/tokens_per_second"}
    assert wanted <= set(tags["scalars"])
    assert {"config/text_summary", "sample/text_summary"} <= set(tags["tensors"])


def test_the_resolved_configuration_composes_back_to_the_same_fingerprint(command, text_data, tmp_path: Path) -> None:
    command(*SMALL, *text_data, "model/ffn=silu", "seed=3")
    run = only_run(tmp_path)
    recorded = run.read_summary()["fingerprint"]
    assert fingerprint_of(OmegaConf.load(run.config)) == recorded  # type: ignore[arg-type]

    said = command("-cp", str(run.path), "-cn", "config", "hydra.run.dir=again")
    assert said.exit_code == 0
    assert RunFolder(tmp_path / "again").read_summary()["fingerprint"] == recorded


def test_nan_is_a_result(command, text_data, tmp_path: Path) -> None:
    said = command(*SMALL, *text_data, *FATAL)

    assert said.exit_code == 0
    assert said.out.startswith("nonfinite at step 1: the training loss is nan.")
    run = only_run(tmp_path)
    assert run.read_summary()["outcome"] == "nonfinite"
    assert run.read_summary()["outcome_step"] == 1
    (record,) = map(json.loads, run.metrics.read_text().splitlines())
    assert record["train_loss"] in ("NaN", "Infinity") or record["grad_norm"] in ("NaN", "Infinity")
    assert not run.checkpoints.exists()
    assert run.samples.is_file()


def test_the_same_command_gives_the_same_bytes(command, text_data, tmp_path: Path) -> None:
    for name in ("one", "two"):
        command(*SMALL, *text_data, f"hydra.run.dir={name}")
    one, two = RunFolder(tmp_path / "one"), RunFolder(tmp_path / "two")
    assert losses(one) == losses(two)
    weights = [run.checkpoints / "last" / "model.safetensors" for run in (one, two)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_telemetry_changes_neither_the_fingerprint_nor_a_byte(command, text_data, tmp_path: Path) -> None:
    runs = []
    for name in ("none", "full"):
        command(*SMALL, *text_data, f"telemetry={name}", f"hydra.run.dir={name}")
        runs.append(RunFolder(tmp_path / name))
    assert losses(runs[0]) == losses(runs[1])
    assert runs[0].read_summary()["fingerprint"] == runs[1].read_summary()["fingerprint"]
    weights = [run.checkpoints / "last" / "model.safetensors" for run in runs]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def losses(run: RunFolder) -> list[tuple]:
    return [(r["step"], r["train_loss"], r["grad_norm"], r.get("val_loss")) for r in run.read_metrics()]


STATEFUL_ARMS = {
    "baseline": [],
    "power_iteration": ["model/linear=sigma_reparam", "optimizer=muon", "model/position=learned", "telemetry=full"],
    "shared_gates": ["model/residual=rezero", "attention/qk_clip=rescale", "optimizer=lion"],
    "clipped_updates": ["optimizer=adamw_clipped", "model.tied_embedding=true", "telemetry.sharpness_every=1"],
    "momentum": ["optimizer=sgd", "+model/norm@model.per_layer.layer_0.norm=derf", "schedule=wsd"],
}


@pytest.mark.parametrize("arm", STATEFUL_ARMS)
def test_an_interrupted_run_resumes_to_the_same_bytes(
    arm: str, command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = [*SMALL, *text_data, *STATEFUL_ARMS[arm], "logger=none"]
    command(*small, "hydra.run.dir=whole")

    def interrupted_records(*arguments, **keywords):
        for record in training_records(*arguments, **keywords):
            if record.step == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield record

    with monkeypatch.context() as patch:
        patch.setattr("normlab.app.training.training_records", interrupted_records)
        said = command(*small, "hydra.run.dir=cut")
    assert said.exit_code == 143
    cut = RunFolder(tmp_path / "cut")
    assert cut.read_summary()["outcome"] == "interrupted"
    assert [record["step"] for record in cut.read_metrics()] == [1, 2]

    assert "resume=cut" in said.out

    said = command("resume=cut")
    assert said.exit_code == 0, said.err
    whole = RunFolder(tmp_path / "whole")
    assert losses(cut) == losses(whole)
    assert cut.samples.read_text() == whole.samples.read_text()
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (cut.checkpoints / "last" / name).read_bytes() == (whole.checkpoints / "last" / name).read_bytes()
    assert (cut.path / ".hydra" / "overrides.yaml").read_text() == (whole.path / ".hydra/overrides.yaml").read_text()

    said = command("resume=cut")
    assert said.exit_code == 0
    assert "completed already" in said.out


def test_resume_refuses_a_changed_experiment(command, text_data, tmp_path: Path) -> None:
    command(*SMALL, *text_data, "hydra.run.dir=first")
    said = command("resume=first", "optimizer.lr=1e-2")
    assert said.exit_code == 2
    assert "optimizer.lr was 0.003" in said.err
    assert "is 0.01 now" in said.err


def test_a_folder_that_holds_a_run_is_not_written_again(command, text_data, tmp_path: Path) -> None:
    command(*SMALL, *text_data, "hydra.run.dir=first")
    before = (tmp_path / "first" / "metrics.jsonl").read_bytes()
    said = command(*SMALL, *text_data, "hydra.run.dir=first", "seed=1")
    assert said.exit_code == 2
    assert "resume=" in said.err and "first" in said.err
    assert (tmp_path / "first" / "metrics.jsonl").read_bytes() == before


def test_a_crash_is_recorded_and_exits_with_1(
    command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments, **keywords):
        raise RuntimeError("a planted fault")

    monkeypatch.setattr("normlab.app.build.build_schedule", broken)
    said = command(*SMALL, *text_data)
    assert said.exit_code == 1
    assert "RuntimeError: a planted fault" in said.err
    summary = only_run(tmp_path).read_summary()
    assert summary["outcome"] == "crashed"
    assert summary["error"] == "RuntimeError: a planted fault"


@pytest.mark.parametrize("error", [MemoryError("full"), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory_has_a_name(
    error: Exception, command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def greedy(*arguments, **keywords):
        raise error

    monkeypatch.setattr("normlab.app.build.build_model", greedy)
    assert command(*SMALL, *text_data).exit_code == 1
    assert only_run(tmp_path).read_summary()["outcome"] == "out_of_memory"


def test_two_runs_of_the_same_second_get_two_folders(
    command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hydra.core.utils.strftime", lambda pattern, now=None: "same", raising=False)
    for _ in range(2):
        assert command(*SMALL, *text_data, "trainer.steps=1").exit_code == 0
    assert len(list(tmp_path.glob("outputs/**/summary.json"))) == 2


def test_losses_are_finite_numbers_where_the_run_lived(command, text_data, tmp_path: Path) -> None:
    command(*SMALL, *text_data)
    assert all(math.isfinite(record["train_loss"]) for record in only_run(tmp_path).read_metrics())


def test_a_second_interrupt_stops_at_once_and_is_recorded(
    command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow_records(*arguments, **keywords):
        for record in training_records(*arguments, **keywords):
            yield record
            raise KeyboardInterrupt

    monkeypatch.setattr("normlab.app.training.training_records", slow_records)
    said = command(*SMALL, *text_data)
    assert said.exit_code == 130
    assert "Traceback" not in said.err
    assert only_run(tmp_path).read_summary()["outcome"] == "interrupted"


def test_resume_says_that_metrics_are_missing_and_that_a_configuration_is_damaged(
    command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted_records(*arguments, **keywords):
        for record in training_records(*arguments, **keywords):
            if record.step == 3:
                os.kill(os.getpid(), signal.SIGINT)
            yield record

    with monkeypatch.context() as patch:
        patch.setattr("normlab.app.training.training_records", interrupted_records)
        assert command(*SMALL, *text_data, "hydra.run.dir=cut").exit_code == 130
    run = RunFolder(tmp_path / "cut")
    run.metrics.write_bytes(run.metrics.read_bytes()[:300])
    config = run.config.read_text()
    run.config.write_text(config[: len(config) // 3])
    said = command("resume=cut")
    assert said.exit_code == 2
    assert "config.yaml is damaged" in said.err
    run.config.write_text(config)
    said = command("resume=cut")
    assert said.exit_code == 0
    assert "lacks some of the steps up to 3" in said.err


def test_a_warmup_as_long_as_the_run_is_said(command, text_data) -> None:
    assert "warmup (4 steps) is as long as the run (4)" in command(*SMALL, *text_data, "schedule.warmup_steps=4").err


def test_a_run_folder_admits_no_code(command, text_data, tmp_path: Path) -> None:
    command(*SMALL, *text_data, "hydra.run.dir=run")
    run = RunFolder(tmp_path / "run")
    overrides = run.path / ".hydra" / "overrides.yaml"
    honest = overrides.read_text()
    overrides.write_text(honest + "- allow_targets=[pathlib]\n- data._target_=pathlib.Path\n")
    for arguments in (["resume=run"], ["resume=run", "data._target_=normlab.data.text.TextFiles"]):
        said = command(*arguments)
        assert said.exit_code == (2 if len(arguments) == 1 else 0), said.err
        assert ("pathlib.Path" in said.err) == (len(arguments) == 1)

    overrides.write_text(honest)
    run.config.write_text(run.config.read_text().replace("normlab.data.text.TextFiles", "pathlib.Path"))
    for arguments in (["resume=run"], ["task=evaluate", "checkpoint=run"], ["task=generate", "checkpoint=run"]):
        said = command(*arguments)
        assert said.exit_code == 2
        assert "got 'pathlib.Path'" in said.err and "allow_targets=[pathlib]" in said.err
