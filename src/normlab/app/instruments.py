"""The instruments of a run, on the parts of its experiment."""

import torch
from torch import Tensor, nn, optim

from normlab.app.build import Experiment
from normlab.core.seeding import derive_seed
from normlab.optim.stability import preconditioner, stability_threshold
from normlab.telemetry.instruments import Instruments, TelemetrySettings
from normlab.telemetry.shares import Shares
from normlab.telemetry.sharpness import sharpness_readings
from normlab.train.backpropagation import in_parts
from normlab.train.hardware import autocast
from normlab.train.state import RunState


def attach_instruments(
    settings: TelemetrySettings, experiment: Experiment, state: RunState, seed: int, *, is_apart: bool
) -> Instruments:
    """Instruments on the model and optimizer; ``is_apart``: in passes of their own."""
    model, optimizer = experiment.model, experiment.optimizer
    world, batches, batch_size = experiment.world, experiment.batches, experiment.settings.batch_size

    def measure_sharpness() -> dict[str, float]:
        if not world.is_main:
            return {}  # rank 0 has all weights, and takes the whole batch
        batch = batches.whole().training(1)  # always the same, whatever the step
        threshold = stability_threshold(optimizer)
        return sharpness_readings(
            lambda: experiment.loss(model(batch.inputs_BT), batch.targets_BT).value,
            model,
            preconditioner=_preconditioners(model, optimizer),
            threshold=None if threshold is None else threshold.value,
            num_iterations=settings.sharpness_iterations,
            tolerance=settings.sharpness_tolerance,
            generator=torch.Generator().manual_seed(derive_seed(seed, "sharpness")),
        )

    def run_model(step: int) -> None:
        with torch.no_grad(), autocast(experiment.device, experiment.settings.precision):
            for part in in_parts(batches.training(step), batch_size):
                model(part.inputs_BT)

    return Instruments(
        settings,
        model,
        optimizer,
        is_apart=is_apart,
        run_model=run_model,
        weights_are_gone=lambda: state.has_just_gone_back,
        measure_sharpness=measure_sharpness,
        shares=Shares(
            num_passes=-(-batches.sequences_per_step // (world.size * batch_size)),
            gather=world.gathered,
            num_devices=world.size,
            has_spread_weights=experiment.settings.parallel == "fsdp" and world.size > 1,
        ),
    )


def _preconditioners(model: nn.Module, optimizer: optim.Optimizer) -> list[Tensor] | None:
    """Those of all trained parameters; None where the optimizer has none, or has not stepped yet.

    A parameter that never had a gradient has none either, and its rows of the Hessian are zero: any will do.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = [preconditioner(optimizer, parameter) for parameter in parameters]
    if all(tensor is None for tensor in found):
        return None
    return [
        torch.ones_like(parameter) if tensor is None else tensor
        for parameter, tensor in zip(parameters, found, strict=True)
    ]
