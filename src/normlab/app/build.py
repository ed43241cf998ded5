"""From a checked configuration to the parts of an experiment."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import optim

from normlab.app.canonical import sequences_per_step
from normlab.app.mapped_files import check_not_cut
from normlab.app.memory import check_memory
from normlab.app.starting import starting_point
from normlab.core.errors import ConfigError, DataError
from normlab.core.seeding import derive_seed
from normlab.data.disk import Announce
from normlab.data.foreign_tokens import TokenFiles
from normlab.data.prepare import Corpus, prepare_corpus
from normlab.data.source import Source
from normlab.data.windows import (
    TokenArray,
    Tokens,
    epoch_offsets,
    gather,
    in_batches,
    part_of_rank,
    training_offsets,
    validation_offsets,
)
from normlab.model.init import Initialiser
from normlab.model.language_model import LanguageModel
from normlab.model.loss import Loss
from normlab.optim.schedules import Schedule
from normlab.train.backpropagation import Batch
from normlab.train.distributed.sharding import spread
from normlab.train.distributed.world import ALONE, World
from normlab.train.hardware import choose_device, device_of_process, flush_denormals, keep_freed_memory
from normlab.train.settings import TrainerSettings

OffsetSampler = Callable[..., Tokens]


@dataclass(frozen=True)
class Experiment:
    """All parts of one training, as one process of its ``world`` has them, before its first step."""

    settings: TrainerSettings
    device: torch.device
    source: Source | TokenFiles
    corpus: Corpus
    batches: "Batches"
    model: LanguageModel
    optimizer: optim.Optimizer
    loss: Loss
    schedule: Schedule
    world: World = ALONE


def build_experiment(config: DictConfig, announce: Announce, world: World = ALONE) -> Experiment:
    """Build everything that a configuration names; data are prepared at first use, by rank 0 for all."""
    settings: TrainerSettings = instantiate(config.trainer)
    alone = world.size == 1
    device = choose_device(settings.device) if alone else device_of_process(settings.device, world.local_rank)
    flush_denormals()
    keep_freed_memory()
    start = starting_point(config, announce)
    source: Source | TokenFiles = instantiate(config.data)

    def prepare() -> Corpus:
        prepared = prepare_corpus(source, instantiate(config.tokenizer), Path(config.cache), announce)
        check_lengths(prepared, config.model.context_length, world.size)
        return prepared

    corpus = world.main_first(prepare)
    batches = build_batches(config, corpus, device, world)
    check_memory(
        lambda: instantiate(config.model)(corpus.vocab_size, attention=instantiate(config.attention)),
        world,
        are_spread=settings.parallel == "fsdp",
    )
    model = build_model(config, corpus.vocab_size, device)
    if start is not None:
        start.fill(model, corpus, announce)
    if settings.parallel == "fsdp" and world.size > 1:
        spread(model, world)
    loss: Loss = instantiate(config.loss)
    return Experiment(
        settings,
        device,
        source,
        corpus,
        batches,
        model,
        build_optimizer(config, model),
        loss,
        build_schedule(config),
        world,
    )


def build_model(config: DictConfig, vocab_size: int, device: torch.device) -> LanguageModel:
    """The model with its weights drawn from the seed, on the device."""
    torch.manual_seed(derive_seed(config.seed, "global"))  # for parts of a user's own that draw without a name
    attention = instantiate(config.attention)
    model: LanguageModel = instantiate(config.model)(vocab_size, attention=attention)
    initialiser: Initialiser = instantiate(config.init)
    initialiser.fill(model, config.seed)
    return model.to(device)


def build_optimizer(config: DictConfig, model: LanguageModel) -> optim.Optimizer:
    """The optimizer of a model, which has its say after every step."""
    optimizer: optim.Optimizer = instantiate(config.optimizer)(model)
    optimizer.register_step_post_hook(lambda *_: model.after_update())
    return optimizer


def build_schedule(config: DictConfig) -> Schedule:
    """The learning rate as a function of the step, 1 to ``trainer.steps``."""
    schedule = instantiate(config.schedule)
    return partial(schedule, peak_lr=config.optimizer.lr, total_steps=config.trainer.steps)


@dataclass(frozen=True)
class Batches:
    """The batches of a run, on its device, as functions of nothing but the configuration.

    A batch has ``sequences_per_step`` windows, whatever the ``world``: this process takes its share of them, the
    windows of all ranks in their order being the batch. ``batch_size`` is how many it takes at a time.
    """

    corpus: Corpus
    context_length: int
    batch_size: int
    sequences_per_step: int
    val_tokens: int
    seed: int
    sample_offsets: OffsetSampler
    device: torch.device
    world: World = ALONE

    def training(self, step: int) -> Batch:
        """This process's share of what a step sees."""
        offsets = self.sample_offsets(
            len(self.corpus.train),
            batch_size=self.sequences_per_step,
            context_length=self.context_length,
            seed=self.seed,
            step=step,
        )
        own = part_of_rank(offsets, rank=self.world.rank, num_ranks=self.world.size)
        return _batch(self.corpus.train, own, self.context_length, self.device)

    def validation(self) -> Iterator[Batch]:
        """This process's share of what every validation sees: at least one window."""
        num_windows = max(self.world.size, self.val_tokens // self.context_length)
        offsets = validation_offsets(
            len(self.corpus.valid), num_windows=num_windows, context_length=self.context_length
        )
        own = np.array_split(offsets, self.world.size)[self.world.rank]
        return _batches_at(self.corpus.valid, own, self.context_length, self.batch_size, self.device)

    def whole(self) -> "Batches":
        """As a process by itself has them."""
        return replace(self, world=ALONE)


def validation_batches(
    tokens: TokenArray, num_windows: int, context_length: int, *, batch_size: int, device: torch.device
) -> Iterator[Batch]:
    """The windows of a validation, ``batch_size`` at a time."""
    offsets = validation_offsets(len(tokens), num_windows=num_windows, context_length=context_length)
    return _batches_at(tokens, offsets, context_length, batch_size, device)


def _batches_at(
    tokens: TokenArray, offsets: Tokens, context_length: int, batch_size: int, device: torch.device
) -> Iterator[Batch]:
    return (_batch(tokens, part, context_length, device) for part in in_batches(offsets, batch_size))


def _batch(tokens: TokenArray, offsets: Tokens, context_length: int, device: torch.device) -> Batch:
    check_not_cut(tokens)
    inputs_BT, targets_BT = gather(tokens, offsets, context_length)
    return Batch(torch.from_numpy(inputs_BT).to(device), torch.from_numpy(targets_BT).to(device))


def build_batches(config: DictConfig, corpus: Corpus, device: torch.device, world: World = ALONE) -> Batches:
    """The run's batches."""
    return Batches(
        corpus=corpus,
        context_length=config.model.context_length,
        batch_size=config.trainer.batch_size,
        sequences_per_step=sequences_per_step(config.trainer),
        val_tokens=config.trainer.val_tokens,
        seed=config.seed,
        sample_offsets=_offset_sampler(config, corpus),
        device=device,
        world=world,
    )


def _offset_sampler(config: DictConfig, corpus: Corpus) -> OffsetSampler:
    """How the windows of a step are drawn; raises ConfigError for a mixture without replacement."""
    replaces = config.trainer.sampling == "with_replacement"
    if corpus.mixture is None:
        return training_offsets if replaces else epoch_offsets
    if not replaces:
        raise ConfigError("data=mix is drawn with replacement only. Type trainer.sampling=with_replacement.")
    mixture = corpus.mixture
    return lambda num_tokens, **keywords: mixture.offsets(**keywords)


def check_lengths(corpus: Corpus, context_length: int, num_devices: int) -> None:
    """Raise DataError where a split is too short for one window, or that of validation for one to each device."""
    for split in ("train", "valid"):
        check_length(getattr(corpus, split), split, context_length)
    num_windows = (len(corpus.valid) - 1) // context_length
    if num_windows < num_devices:
        raise DataError(
            f"The valid split must hold a window of model.context_length={context_length} tokens for each of "
            f"{num_devices} devices; it holds {num_windows}. Give it a longer text."
        )


def check_length(tokens: TokenArray, split: str, context_length: int) -> None:
    """Raise DataError where a split is shorter than one context and the token after it."""
    if len(tokens) <= context_length:
        shorter = f", or try model.context_length={len(tokens) // 2}" if len(tokens) > 1 else ""
        raise DataError(
            f"The {split} split must hold more tokens than model.context_length={context_length}; got {len(tokens)}. "
            f"Give it a longer text{shorter}."
        )
