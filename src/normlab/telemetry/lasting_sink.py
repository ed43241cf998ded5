"""What sinks have in common whose destination is a service's: it outlives the process, and takes a step only once."""

from abc import abstractmethod
from pathlib import Path

from normlab.core.records import StepRecord
from normlab.telemetry.hyper_parameters import HyperParameters
from normlab.telemetry.past_records import past_records
from normlab.telemetry.sinks import Sink


class LastingSink(Sink):
    """A run that goes on does so in the same place there, behind the last step that arrived.

    A step that is taken again has the numbers that it had before, and is not sent a second time; one that never
    arrived, because the process was killed or the run had another logger until then, is sent from metrics.jsonl.
    """

    def __init__(self, folder: Path, first_step: int):
        self._folder, self._first_step = folder, first_step
        self._is_open = self._has_begun = False
        self._last_arrived = -1

    def begin(self, chosen: HyperParameters) -> None:
        """Open the run there, and send what it lacks."""
        self._has_begun = True
        self._open_once(chosen)
        for record in past_records(self._folder, after=self._last_arrived, before=self._first_step):
            self.record(record)

    def record(self, record: StepRecord) -> None:
        """Send the record of a step that has not arrived."""
        self._open_once(None)
        if record.step > self._last_arrived:
            self._send(record)

    def _open_once(self, chosen: HyperParameters | None) -> None:
        """A sink that is used without a beginning adds to a run that was, or is all that there is of it."""
        if not self._is_open:
            self._last_arrived = self._open(chosen)
            self._is_open = True

    @abstractmethod
    def _open(self, chosen: HyperParameters | None) -> int:
        """Find the run or make it; return the last step that has arrived there, -1 where none has."""

    @abstractmethod
    def _send(self, record: StepRecord) -> None:
        """Hand the record on."""
