"""When the figures of a run are drawn, and where they go."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from normlab.core.files import write_whole
from normlab.core.records import Outcome, StepRecord
from normlab.telemetry.figure_history import ACTIVATION_RMS, Fatality, LayerHistory
from normlab.telemetry.sinks import Sink

SECONDS_BETWEEN = 60.0
"""Of the run's own time."""


class FigureSink(Sink):
    """Figures of what the instruments read, as PNG files in ``folder`` and as pictures for ``logger``.

    They are drawn anew at the end, however it comes, and at validations, but no sooner than ``SECONDS_BETWEEN`` after
    the last time, for that takes a while; and only where they would differ from the last ones. ``past`` is what
    metrics.jsonl has of a run that is resumed; ``outcome`` says how the run ended, once it has.
    """

    def __init__(
        self, folder: Path, logger: Sink, past: Iterable[Mapping[str, Any]], outcome: Callable[[], Outcome | None]
    ):
        self._folder = folder
        self._logger = logger
        self._outcome = outcome
        self._history = LayerHistory()
        self._last_step, self._drawn_at = 0, 0.0
        for record in past:
            self._history.add(record["step"], record)
            self._last_step, self._drawn_at = record["step"], record["seconds"]
        self._drawn: tuple[int, Fatality | None] = (0, None)  # a run that was killed may have drawn less than it read

    def record(self, record: StepRecord) -> None:
        """Keep what was read, draw where the step has a validation."""
        self._last_step = record.step
        self._history.add(record.step, record.telemetry)
        if record.val_loss is not None and record.seconds - self._drawn_at >= SECONDS_BETWEEN:
            self._drawn_at = record.seconds
            self._draw_what_is_new()

    def close(self) -> None:
        """Draw the end."""
        self._draw_what_is_new()

    def _draw_what_is_new(self) -> None:
        outcome = self._outcome()
        fatality = (
            Fatality(self._last_step, outcome) if outcome is Outcome.NONFINITE or outcome is Outcome.DIVERGED else None
        )
        shown = (self._history.num_readings, fatality)
        if shown == self._drawn or self._history.num_readings == 0:
            return
        for name, png in drawn_figures(self._history, fatality).items():
            write_whole(self._folder / f"{name}.png", png)
            self._logger.image(f"figures/{name}", png, self._last_step)
        self._drawn = shown


def drawn_figures(history: LayerHistory, fatality: Fatality | None) -> dict[str, bytes]:
    """PNG files by name."""
    # Matplotlib is slow to import, and many runs are over before anything is drawn.
    from normlab.telemetry.figure_of_activations import activation_figure
    from normlab.telemetry.figure_of_attention import attention_figure
    from normlab.telemetry.figure_style import as_png

    figures = {
        ACTIVATION_RMS: activation_figure(history, fatality),
        "attention_logits": attention_figure(history, fatality),
    }
    return {name: as_png(figure) for name, figure in figures.items() if figure is not None}
