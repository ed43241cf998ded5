"""The sinks of one run, opened together and closed together."""

from collections.abc import Iterator
from contextlib import contextmanager

from hydra.utils import instantiate
from omegaconf import DictConfig

from normlab.core.records import StepRecord
from normlab.core.run_folder import RunFolder
from normlab.telemetry.console import ConsoleSink
from normlab.telemetry.sinks import JsonLinesSink, Sink


class Sinks:
    """Hands everything on to each of several sinks."""

    def __init__(self, sinks: list[Sink]):
        self._sinks = sinks

    def record(self, record: StepRecord) -> None:
        """Take the record of one step."""
        for sink in self._sinks:
            sink.record(record)

    def text(self, tag: str, text: str) -> None:
        """Take a piece of text under a tag."""
        for sink in self._sinks:
            sink.text(tag, text)

    def close(self) -> None:
        """Close every sink."""
        for sink in self._sinks:
            sink.close()


@contextmanager
def open_sinks(config: DictConfig, folder: RunFolder, total_steps: int, first_step: int) -> Iterator[Sinks]:
    """metrics.jsonl, the configured logger and the console; closed however the block ends."""
    sinks = Sinks(
        [
            JsonLinesSink(folder.metrics),
            instantiate(config.logger)(folder.tensorboard, first_step),
            ConsoleSink(total_steps, first_step),
        ]
    )
    try:
        yield sinks
    finally:
        sinks.close()
