"""TensorBoard events: scalars against step and wall time, how they are grouped, text and pictures."""

from collections.abc import Mapping
from pathlib import Path

from tensorboard.compat.proto.summary_pb2 import Summary  # type: ignore[attr-defined]  (made when imported)
from torch.utils.tensorboard.summary import custom_scalars
from torch.utils.tensorboard.summary import text as text_summary

from normlab.core.records import StepRecord
from normlab.core.run_folder import RunFolder
from normlab.telemetry.event_file import EventFile
from normlab.telemetry.hyper_parameters import Ending, HyperParameters, beginning_summaries, ending_summary
from normlab.telemetry.scalars import Scalars
from normlab.telemetry.sinks import Sink
from normlab.telemetry.tensorboard_layout import layout_of

WIDTH_AT, HEIGHT_AT = 16, 20
"""Where a PNG file says so, in four bytes each."""
RGBA = 4


class TensorBoardSink(Sink):
    """Writes the events of the run in ``folder``; those of ``first_step`` and later, from an earlier try, are dropped.

    Text stands at the last step taken, the ending at the one after it: a run that goes on drops it too.
    """

    def __init__(self, folder: Path, first_step: int):
        self._events = EventFile(RunFolder(folder).tensorboard, purge_step=first_step if first_step > 1 else 0)
        self._has_layout = first_step > 1
        self._next_step = first_step
        self._scalars = Scalars()

    def begin(self, chosen: HyperParameters) -> None:
        """Add the choices for the HParams page."""
        for summary in beginning_summaries(chosen):
            self._events.add(summary)

    def record(self, record: StepRecord) -> None:
        """Add the scalars of one step, and its notes as text."""
        scalars = self._scalars.of(record)
        self._next_step = record.step + 1
        self._add_scalars(scalars, record.step)
        if record.notes:
            self._events.add(text_summary("notes", "\n\n".join(record.notes)), record.step)
        if not self._has_layout:
            self._events.add(custom_scalars(layout_of(scalars)))
            self._has_layout = True

    def text(self, tag: str, markdown: str) -> None:
        """Add text, which TensorBoard shows as Markdown."""
        self._events.add(text_summary(tag, markdown), self._next_step - 1)

    def image(self, tag: str, png: bytes, step: int) -> None:
        """Add a picture as it is; ``add_image`` would decode and compress it again."""
        height, width = (int.from_bytes(png[start : start + 4]) for start in (HEIGHT_AT, WIDTH_AT))
        picture = Summary.Image(height=height, width=width, colorspace=RGBA, encoded_image_string=png)
        self._events.add(Summary(value=[Summary.Value(tag=tag, image=picture)]), step)

    def end(self, ending: Ending) -> None:
        """Add the ending for the HParams page."""
        self._add_scalars(ending.scalars(), self._next_step)
        self._events.add(ending_summary(ending))

    def close(self) -> None:
        """Let go of the file."""
        self._events.close()

    def _add_scalars(self, scalars: Mapping[str, float], step: int) -> None:
        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._events.add(Summary(value=values), step)
