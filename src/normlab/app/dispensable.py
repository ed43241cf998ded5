"""Sinks that a run can do without: TensorBoard, figures, the terminal."""

from collections.abc import Callable
from contextlib import suppress

from normlab.app.announce import announce
from normlab.core.records import StepRecord
from normlab.telemetry.hyper_parameters import Ending, HyperParameters
from normlab.telemetry.sinks import Sink


class Dispensable(Sink):
    """Hands everything on to a sink until it fails, which may be as it opens; says so once, and then does nothing."""

    def __init__(self, name: str, open_sink: Callable[[], Sink]):
        self._name = name
        self._sink: Sink | None = None
        try:
            self._sink = open_sink()
        except Exception as error:
            self._switch_off(error)

    def begin(self, chosen: HyperParameters) -> None:
        """Take what the run chose."""
        self._hand_on(lambda sink: sink.begin(chosen))

    def record(self, record: StepRecord) -> None:
        """Take the record of one step."""
        self._hand_on(lambda sink: sink.record(record))

    def text(self, tag: str, markdown: str) -> None:
        """Take a text in Markdown under a tag."""
        self._hand_on(lambda sink: sink.text(tag, markdown))

    def image(self, tag: str, png: bytes, step: int) -> None:
        """Take a picture."""
        self._hand_on(lambda sink: sink.image(tag, png, step))

    def end(self, ending: Ending) -> None:
        """Take how the run ended."""
        self._hand_on(lambda sink: sink.end(ending))

    def close(self) -> None:
        """Close the sink."""
        self._hand_on(lambda sink: sink.close())

    def _hand_on(self, act: Callable[[Sink], None]) -> None:
        if self._sink is None:
            return
        try:
            act(self._sink)
        except Exception as error:
            self._switch_off(error)

    def _switch_off(self, error: Exception) -> None:
        sink, self._sink = self._sink, None
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        announce(f"note: {self._name}: off from now on ({reason}); the run goes on without.")
        if sink is not None:
            with suppress(Exception):
                sink.close()
