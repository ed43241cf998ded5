"""Rules that no single value can break: they hold between keys."""

import re

from omegaconf import DictConfig

from normlab.app.combinations import refuse_void_combinations
from normlab.app.targets import target_of
from normlab.core.errors import ConfigError
from normlab.model.position import RotaryPosition

DATA_OF_CHECKPOINT = "normlab.app.tasks.evaluate.DataOfCheckpoint"
TRAIN = "normlab.app.tasks.train.train"
DECIDED_BY_CHECKPOINT = ("model", "attention", "init", "loss", "optimizer", "schedule", "tokenizer")


def validate(config: DictConfig) -> None:
    """Raise ConfigError at the first rule that the configuration breaks."""
    _only_training_resumes(config)
    _heads_divide_width(config)
    _rotary_pairs_channels(config)
    refuse_void_combinations(config)
    _training_data_is_named(config)
    _checkpoint_decides_the_model(config)
    _cuda_graphs_are_compiled(config)


def _only_training_resumes(config: DictConfig) -> None:
    if config.resume is not None and config.task._target_ != TRAIN:
        raise ConfigError(
            f"resume={config.resume} goes on with a training; got another task. Remove resume, or type task=train."
        )


def _heads_divide_width(config: DictConfig) -> None:
    width, num_heads = config.model.width, config.model.num_heads
    if width % num_heads != 0:
        fitting = min((n for n in range(1, width + 1) if width % n == 0), key=lambda n: abs(n - num_heads))
        raise ConfigError(
            f"model.width must be divisible by model.num_heads; got {width} and {num_heads}. "
            f"Try model.num_heads={fitting}."
        )


def _rotary_pairs_channels(config: DictConfig) -> None:
    head_width = config.model.width // config.model.num_heads
    if config.model.position._target_ == target_of(RotaryPosition) and head_width % 2 != 0:
        raise ConfigError(
            f"Rotary positions need an even head width (model.width / model.num_heads); got {head_width}. "
            f"Try model.width={2 * config.model.width} or model/position=none."
        )


def _training_data_is_named(config: DictConfig) -> None:
    if "checkpoint" not in config.task and config.data._target_ == DATA_OF_CHECKPOINT:
        raise ConfigError("data=from_checkpoint is for task=evaluate. Type data=stories or data=text.")


def _cuda_graphs_are_compiled(config: DictConfig) -> None:
    if config.trainer.cuda_graphs and not config.trainer.compile:
        raise ConfigError("trainer.cuda_graphs=true needs a compiled model; got trainer.compile=false. Set it to true.")


def _checkpoint_decides_the_model(config: DictConfig) -> None:
    given = next((key for key in ("checkpoint", "run", "sweep") if key in config.task), None)
    if given is None:
        return
    for override in config.hydra.overrides.task:
        group = re.split(r"[./=@]", override.lstrip("+~"))[0]
        if group in DECIDED_BY_CHECKPOINT:
            raise ConfigError(f"The {given} decides the {group}, so {override} has no effect here. Remove it.")
