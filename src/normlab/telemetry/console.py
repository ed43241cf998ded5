"""What a person sees while a run goes: a progress bar on a terminal, plain lines elsewhere."""

import os
import sys

from tqdm import tqdm

from normlab.core.records import StepRecord
from normlab.telemetry.sinks import Sink

NUM_PLAIN_LINES = 10
BAR_FORMAT = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


class ConsoleSink(Sink):
    """Steps, loss, tokens a second and time left."""

    def __init__(self, total_steps: int, first_step: int):
        self._total_steps = total_steps
        done_before = first_step - 1
        self._every = max(1, total_steps // NUM_PLAIN_LINES)
        self._val_loss: float | None = None
        self._bar = (
            tqdm(total=total_steps, initial=done_before, dynamic_ncols=True, mininterval=0.5, bar_format=BAR_FORMAT)
            if sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
            else None
        )

    def record(self, record: StepRecord) -> None:
        """Move the bar, or print a line now and then; before it, what is worth noting of the step."""
        for note in record.notes:
            self._print(f"note: step {record.step}: {note}")
        self._val_loss = record.val_loss if record.val_loss is not None else self._val_loss
        facts = [f"train loss {record.train_loss:.3f}"]
        if self._val_loss is not None:
            facts.append(f"val loss {self._val_loss:.3f}")
        if record.seconds > 0:
            facts.append(f"{record.tokens / record.seconds:,.0f} tokens/s")
        if self._bar is not None:
            self._bar.set_postfix_str(", ".join(facts), refresh=False)
            self._bar.update(1)
        elif record.step % self._every == 0 or record.step == self._total_steps:
            left = record.seconds / record.step * (self._total_steps - record.step)
            facts.append(f"{left:.0f} s left")
            self._print(f"step {record.step}/{self._total_steps}  {', '.join(facts)}")

    def close(self) -> None:
        """Leave the bar as it stands."""
        if self._bar is not None:
            self._bar.close()

    def _print(self, line: str) -> None:
        """A line of its own, above the bar."""
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self._bar.write(line, file=sys.stderr)
