"""The sinks of one run, opened together and closed together."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from omegaconf import DictConfig

from normlab.app.dispensable import Dispensable
from normlab.app.hyper_parameters import hyper_parameters
from normlab.app.loggers import sink_makers
from normlab.app.mode import is_in_sweep
from normlab.core.records import Outcome, StepRecord
from normlab.core.run_folder import RESULTS, RunFolder
from normlab.telemetry.console import ConsoleSink
from normlab.telemetry.figures import FigureSink
from normlab.telemetry.hyper_parameters import Ending, HyperParameters, ending_of
from normlab.telemetry.sinks import JsonLinesSink, Sink
from normlab.train.state import RunState


class Sinks(Sink):
    """Hands everything on to each of several sinks."""

    def __init__(self, sinks: list[Sink]):
        self._sinks = sinks

    def begin(self, chosen: HyperParameters) -> None:
        """Take what the run chose."""
        for sink in self._sinks:
            sink.begin(chosen)

    def record(self, record: StepRecord) -> None:
        """Take the record of one step."""
        for sink in self._sinks:
            sink.record(record)

    def text(self, tag: str, markdown: str) -> None:
        """Take a text in Markdown under a tag."""
        for sink in self._sinks:
            sink.text(tag, markdown)

    def image(self, tag: str, png: bytes, step: int) -> None:
        """Take a picture of how things stand after a step."""
        for sink in self._sinks:
            sink.image(tag, png, step)

    def end(self, ending: Ending) -> None:
        """Take how the run ended."""
        for sink in self._sinks:
            sink.end(ending)

    def close(self) -> None:
        """Close every sink, even where one fails; the last first, which may still write to those before it."""
        with ExitStack() as stack:
            for sink in self._sinks:
                stack.callback(sink.close)


@contextmanager
def open_sinks(config: DictConfig, folder: RunFolder, total_steps: int, state: RunState) -> Iterator[Sinks]:
    """metrics.jsonl, the configured loggers, figures and the console; closed however the block ends.

    metrics.jsonl is the result: what fails there ends the run. The others fail for themselves alone.
    """
    first_step = state.step + 1
    metrics = JsonLinesSink(folder.metrics)
    logger = open_logger(config, folder, first_step)
    figures = Dispensable(
        "figures", lambda: FigureSink(folder.figures, logger, folder.read_metrics(), lambda: state.outcome)
    )
    sinks = Sinks([metrics, logger, figures])
    if not is_in_sweep():
        console = Dispensable("the terminal", lambda: ConsoleSink(total_steps, first_step))
        sinks = Sinks([sinks, console])
    try:
        sinks.begin(hyper_parameters(config))
        yield sinks
    finally:
        if state.outcome in RESULTS:  # TensorBoard keeps the first ending that it is told
            losses = (state.final_val_loss, state.final_train_loss)
            is_completed = state.outcome == Outcome.COMPLETED
            sinks.end(ending_of(is_completed, state.step, losses, state.history.initial_loss))
        sinks.close()


def open_logger(config: DictConfig, folder: RunFolder, first_step: int) -> Sinks:
    """The configured loggers, for the run in a folder; what fails in one ends nothing else."""
    return Sinks(
        [
            Dispensable(f"the logger {name}", partial(make_sink, folder.path, first_step))
            for name, make_sink in sink_makers(config).items()
        ]
    )
