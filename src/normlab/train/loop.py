"""The training loop: it yields one record a step and knows nothing of who reads them."""

import time
from collections.abc import Callable, Iterable, Iterator

from torch import nn, optim

from normlab.core.records import StepRecord
from normlab.optim.schedules import Schedule
from normlab.train.backpropagation import Batch
from normlab.train.distributed.passes import Passes
from normlab.train.distributed.world import ALONE, World
from normlab.train.evaluate import validation_loss
from normlab.train.settings import TrainerSettings
from normlab.train.stability import Stability
from normlab.train.state import RunState
from normlab.train.step import training_step


def training_records(
    model: nn.Module,
    optimizer: optim.Optimizer,
    passes: Passes,
    schedule: Schedule,
    training_batch: Callable[[int], Batch],
    validation_batches: Callable[[], Iterable[Batch]] | None,
    *,
    settings: TrainerSettings,
    stability: Stability,
    state: RunState,
    world: World = ALONE,
) -> Iterator[StepRecord]:
    """Take steps from ``state.step`` until the last one or until the run is lost; yield a record after each.

    Whoever takes the records may stop at any time: model, optimizer and state then stand exactly after the last
    one. The outcome is set together with the last record. Where training goes back to older weights, the count of
    steps goes on. Without ``validation_batches`` nothing is validated. Batches are this process's shares of those that
    the ``world`` takes together, all of one size in training; records are the same in all processes, but for the time.
    """
    started = time.perf_counter() - state.seconds
    while state.outcome is None and state.step < settings.steps:
        step = state.step + 1
        lr = schedule(step)
        batch = training_batch(step)
        result = training_step(model, optimizer, passes, batch, lr=lr, grad_clip=settings.grad_clip, world=world)
        outcome, notes = stability.after(step, result)

        val_loss = None
        is_due = step % settings.val_every == 0 or outcome is not None
        if validation_batches is not None and result.is_finite and is_due:
            val_loss = validation_loss(passes.cross_entropy, validation_batches(), world)
            outcome, said = stability.after_validation(step, val_loss, outcome)
            notes += said
        record = StepRecord(
            step=step,
            tokens=state.tokens + batch.targets_BT.numel() * world.size,
            seconds=time.perf_counter() - started,
            lr=lr,
            train_loss=result.loss,
            grad_norm=result.grad_norm,
            val_loss=val_loss,
            notes=notes,
        )
        state.take(record)
        state.outcome = outcome
        yield record
