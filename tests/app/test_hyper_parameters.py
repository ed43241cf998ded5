"""What the HParams page is told of a sweep's runs: the same keys of all, what is varied, and arms by their names."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

SMALL = ("model=micro", "tokenizer=bytes", "trainer.steps=1", "trainer.val_tokens=256", "telemetry=none")


def told(run: Path) -> tuple:
    """The choices, and what all runs have in common."""
    content = EventAccumulator(str(run / "tensorboard")).Reload().PluginTagToContent(metadata.PLUGIN_NAME)
    return (
        metadata.parse_session_start_info_plugin_data(content[metadata.SESSION_START_INFO_TAG]),
        metadata.parse_experiment_plugin_data(content[metadata.EXPERIMENT_TAG]),
    )


def test_a_sweep_tells_what_it_varies_also_where_that_is_no_group(command, text_data, tmp_path: Path) -> None:
    varied = ("model/norm=none", "schedule.min_lr_fraction=0,0.5", "optimizer.lr=1e-3", "seed=0,1")
    said = command("--multirun", *SMALL, *text_data, *varied, "schedule.warmup_steps=0", "hydra.sweep.dir=sweep")
    assert said.exit_code == 0, said.err
    starts, experiments = zip(*(told(run) for run in sorted((tmp_path / "sweep").glob("min_lr*"))), strict=True)
    assert len(starts) == 4
    arms = [start.group_name.partition(" (")[0] for start in starts]
    assert arms == ["min_lr_fraction=0, lr=0.001"] * 2 + ["min_lr_fraction=0.5, lr=0.001"] * 2
    assert len({start.group_name for start in starts}) == 2
    assert [start.hparams["schedule.min_lr_fraction"].string_value for start in starts] == ["0", "0", "0.5", "0.5"]
    for start, experiment in zip(starts, experiments, strict=True):
        names = {info.name for info in experiment.hparam_infos}
        assert set(start.hparams) == names >= {"model/norm", "optimizer.lr", "attention/clamp"}
        assert "seed" not in names
        assert [info.name for info in experiment.hparam_infos if info.differs] == ["schedule.min_lr_fraction"]


def test_a_run_of_its_own_is_an_arm_by_its_rate(command, text_data, tmp_path: Path) -> None:
    parts = ("trainer.batch_size=2", "trainer.global_batch=4")
    said = command(*SMALL, *text_data, *parts, "schedule.warmup_steps=0", "optimizer.lr=0.25", "hydra.run.dir=run")
    assert said.exit_code == 0, said.err
    start, experiment = told(tmp_path / "run")
    assert start.hparams["trainer.batch_size"].number_value == 4
    assert start.group_name.startswith("lr=0.25 (")
    assert set(start.hparams) == {info.name for info in experiment.hparam_infos}
    assert not [info.name for info in experiment.hparam_infos if info.differs]
