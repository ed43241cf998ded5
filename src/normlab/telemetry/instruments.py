"""The instruments of a run: attached from outside at chosen steps, read once, written into the step's record."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import optim

from normlab.core.records import StepRecord
from normlab.core.types import Count, CountOrZero, Positive
from normlab.model.language_model import LanguageModel
from normlab.telemetry.activations import ActivationProbe, Readings
from normlab.telemetry.shares import ALONE, Shares
from normlab.telemetry.updates import UpdateProbe

Measure = Callable[[], dict[str, float]]
"""Something that is measured between steps."""

RunModel = Callable[[int], None]
"""Runs the model, without gradients, on what a step sees, with the weights as they are."""


@dataclass(frozen=True, kw_only=True)
class TelemetrySettings:
    """How often to look (``every`` steps, and at the first; 0: never), and how closely.

    ``has_detail`` adds statistics by head, norms by layer and the gradient at every site. ``sharpness_every`` is in
    steps too (0: never); each time takes at most ``sharpness_iterations`` products with the Hessian, fewer where the
    residual falls below ``sharpness_tolerance`` times the eigenvalue (whose own error is far smaller).
    """

    every: CountOrZero
    has_detail: bool
    sharpness_every: CountOrZero
    sharpness_iterations: Count
    sharpness_tolerance: Positive


class Instruments:
    """Probes on a model and its optimizer.

    The training step's own pass through the model is watched, or with ``is_apart``, where hooks would not be seen in
    it (it is compiled, say), one before it, on the same tokens. A step that met a NaN or an infinity is looked at
    though it was not due: it has left the weights as they were, so that the model shows once more what it saw, unless
    ``weights_are_gone``.
    """

    def __init__(
        self,
        settings: TelemetrySettings,
        model: LanguageModel,
        optimizer: optim.Optimizer,
        *,
        is_apart: bool,
        run_model: RunModel,
        weights_are_gone: Callable[[], bool],
        measure_sharpness: Measure,
        shares: Shares = ALONE,
    ):
        self._settings = settings
        detail = settings.has_detail
        self._activations = ActivationProbe(model, per_head=detail, has_gradients=detail)
        self._updates = UpdateProbe(model, optimizer, per_layer=detail)
        self._is_apart = is_apart
        self._run_model = run_model
        self._weights_are_gone = weights_are_gone
        self._measure_sharpness = measure_sharpness
        self._shares = shares
        self._is_due = False

    def observed(self, records: Iterator[StepRecord], first_step: int) -> Iterator[StepRecord]:
        """The records, those of due steps with what the instruments read."""
        step = first_step
        self._arm(step)
        for record in records:
            yield replace(record, telemetry={**record.telemetry, **self._taken(record)})
            step = record.step + 1
            self._arm(step)

    def _arm(self, step: int) -> None:
        self._is_due = is_due(step, self._settings.every)
        if self._is_due:
            self._updates.watch_next_step()
            self._activations.watch_next_passes(self._shares.num_passes)
            if self._is_apart:
                self._run_model(step)

    def _taken(self, record: StepRecord) -> dict[str, float]:
        """What was read in the step, in one transfer from the device."""
        found: dict[str, float] = {}
        if self._is_due:
            self._activations.detach()
            self._updates.forget()
            found = self._on_host(self._updates.readings)
            _undo_clipping(found, record.grad_norm)
        elif self._settings.every > 0 and not _is_finite(record) and not self._weights_are_gone():
            self._activations.watch_next_passes(self._shares.num_passes)
            self._run_model(record.step)
            self._activations.detach()
            found = self._on_host({})
        if is_due(record.step, self._settings.sharpness_every):
            found |= self._measure_sharpness()
        return found

    def _on_host(self, of_weights: Readings) -> dict[str, float]:
        """What was read of the passes and of the weights, on all devices: in one transfer, and one gathering."""
        passes = self._activations.passes
        tags = list(passes[0]) if passes else []
        readings = [of_pass[tag] for of_pass in passes for tag in tags] + list(of_weights.values())
        if not readings:
            return {}
        values = torch.stack([value.detach().to(torch.float32) for value in readings])
        if not self._shares.are_several:
            return dict(zip([*tags, *of_weights], values.tolist(), strict=True))
        joined = self._shares.joined(values.cpu().double(), tags, self._activations.num_sequences, list(of_weights))
        return dict(zip([*tags, *of_weights], joined.tolist(), strict=True))


def is_due(step: int, every: int) -> bool:
    """True at the first step and at every multiple of ``every``; never for 0."""
    return every > 0 and (step == 1 or step % every == 0)


def _is_finite(record: StepRecord) -> bool:
    return math.isfinite(record.train_loss) and math.isfinite(record.grad_norm)


def _undo_clipping(found: dict[str, float], total: float) -> None:
    """Scale the gradient norms so that those of all roles together give the total before clipping."""
    by_role = [value for tag, value in found.items() if tag.startswith("grad_norm/") and tag.count("/") == 1]
    clipped = math.hypot(*by_role) if by_role else 0.0
    if clipped > 0:
        for tag in found:
            if tag.startswith("grad_norm/"):
                found[tag] *= total / clipped
