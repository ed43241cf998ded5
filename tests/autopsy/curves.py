"""Curves that a statistic may follow, with and without noise, and a real run's."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from tests.parts import attention_with, model_with, no_norm

from normlab.autopsy.story import Series
from normlab.core.records import StepRecord
from normlab.model.language_model import LanguageModel
from normlab.model.loss import plain_loss
from normlab.model.softmax import NaiveSoftmax
from normlab.optim.adamw import adamw
from normlab.telemetry.activations import ActivationProbe
from normlab.train.backpropagation import Backpropagation, Batch
from normlab.train.step import training_step

WARMUP_STEPS = 50


def series(values: Sequence[float] | np.ndarray, every: int = 1) -> Series:
    """Values read at steps 1, 1 + every, ..."""
    steps = 1 + every * np.arange(len(values), dtype=np.int64)
    return Series(steps, np.array(values, dtype=np.float64))


def exponential(start: float, doubling_steps: float, number: int) -> np.ndarray:
    return start * 2 ** (np.arange(number) / doubling_steps)


def noisy(values: np.ndarray, size: float, seed: int = 0) -> np.ndarray:
    """Each value times exp of a normal number."""
    return values * np.exp(size * np.random.default_rng(seed).standard_normal(len(values)))


def naive_model(has_norm: bool) -> LanguageModel:
    """A model whose softmax subtracts no maximum."""
    parts: dict[str, Any] = {} if has_norm else {"norm": no_norm}
    return model_with(num_layers=3, attention=attention_with(softmax=NaiveSoftmax()), **parts)


def run_of(model: LanguageModel, lr: float, steps: int) -> list[StepRecord]:
    """Train on random tokens, all that the probe sees read every step; the last record is of the step that failed.

    The rate rises for ``WARMUP_STEPS``.
    """
    optimizer = adamw(model, lr=lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.0)
    passes = Backpropagation(model, plain_loss, precision=nullcontext(), compile=False)
    probe = ActivationProbe(model, per_head=True, has_gradients=False)
    records: list[StepRecord] = []
    for step in range(1, steps + 1):
        tokens = torch.randint(23, (4, 13), generator=torch.Generator().manual_seed(step))
        probe.watch_next_pass()
        batch = Batch(tokens[:, :-1], tokens[:, 1:])
        rate = lr * min(1.0, step / WARMUP_STEPS)
        result = training_step(model, optimizer, passes, batch, lr=rate, grad_clip=1.0)
        readings = {tag: value.item() for tag, value in probe.readings.items()}
        records.append(
            StepRecord(
                step=step,
                tokens=0,
                seconds=0.0,
                lr=lr,
                train_loss=result.loss,
                grad_norm=result.grad_norm,
                telemetry=readings,
            )
        )
        if not result.is_finite:
            break
    return records


def history_of(records: Sequence[StepRecord]) -> dict[str, Series]:
    readings: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for tag, value in record.as_dict().items():
            if isinstance(value, float):
                readings.setdefault(tag, []).append((record.step, value))
    return {
        tag: Series(np.array([step for step, _ in pairs]), np.array([value for _, value in pairs]))
        for tag, pairs in readings.items()
    }
