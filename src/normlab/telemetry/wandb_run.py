"""Weights & Biases: the steps of a run as its history, what it chose as its configuration, its autopsy as its notes."""

import os
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from normlab.core.files import write_whole
from normlab.core.records import StepRecord
from normlab.telemetry.hyper_parameters import Ending, HyperParameters
from normlab.telemetry.lasting_sink import LastingSink
from normlab.telemetry.scalars import Scalars
from normlab.telemetry.wandb_file import last_step_in

AUTOPSY = "autopsy"
GROUP_CHARACTERS = 128
QUIET = {
    "disable_git": True,
    "disable_job_creation": True,
    "save_code": False,
    "console": "off",
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
"""What W&B would find out about the machine and its files by itself; the run's own summary tells what matters."""


class WandbSink(LastingSink):
    """A W&B run named after the run folder, in whose ``wandb`` its files lie; offline, nothing leaves the machine.

    The id of the run is kept in the folder. A run that goes on offline begins a second file of the same id, which
    holds no step of the first: ``wandb sync`` sends both. A row is complete when the next begins, so that a killed
    process loses the last one, which is sent when the run goes on.
    """

    def __init__(
        self,
        folder: Path,
        first_step: int,
        *,
        project: str,
        entity: str | None,
        group: str | None,
        tags: Sequence[str],
        mode: Literal["online", "offline"],
    ):
        super().__init__(folder, first_step)
        self._where: Mapping[str, Any] = {"project": project, "entity": entity, "tags": list(tags)}
        self._group = group
        self._mode: Literal["online", "offline"] = mode
        self._scalars = Scalars()
        self._run: Any = None
        self._exit_code = 0

    def text(self, tag: str, markdown: str) -> None:
        """Put a text into the summary, the autopsy into the notes."""
        self._open_once(None)
        if tag == AUTOPSY:
            self._run.notes = markdown
        else:
            self._run.summary[tag] = markdown

    def image(self, tag: str, png: bytes, step: int) -> None:
        """Add a picture to the row of its step; to the next, where that has been sent and the run is over."""
        self._open_once(None)
        if self._has_begun and step <= self._last_arrived:
            return
        import wandb

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "picture.png"
            path.write_bytes(png)
            self._run.log({tag: wandb.Image(str(path))}, step=max(step, self._last_arrived + 1))

    def end(self, ending: Ending) -> None:
        """Put how the run ended into the summary; one that died has failed, in W&B's words."""
        self._run.summary.update(ending.scalars())
        self._exit_code = 0 if ending.is_completed else 1

    def close(self) -> None:
        """Write what is pending; online, wait until it is sent."""
        if self._run is not None:
            self._run.finish(exit_code=self._exit_code)

    def _send(self, record: StepRecord) -> None:
        notes = {"notes": " ".join(record.notes)} if record.notes else {}
        self._run.log({**self._scalars.of(record), **notes}, step=record.step)

    def _open(self, chosen: HyperParameters | None) -> int:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read as it is imported
        import wandb

        if self._mode == "online" and not wandb.api.api_key:
            raise ValueError("W&B's server must know who sends. Type wandb login, or logger.wandb.mode=offline.")
        run_id, files = self._run_id(), self._folder / "wandb"
        arrived = [last_step_in(path) for path in files.glob(f"offline-run-*/run-{run_id}.wandb")]
        arm = None if chosen is None else chosen.arm[:GROUP_CHARACTERS]
        config = None if chosen is None else {**chosen.options, **chosen.numbers}
        settings = wandb.Settings(root_dir=str(self._folder), silent=self._mode == "offline", **QUIET)  # type: ignore[arg-type]
        hooks = sys.exit, sys.excepthook
        self._run = wandb.init(
            **self._where,
            id=run_id,
            name=self._folder.resolve().name,
            group=self._group or arm,
            config=config,
            mode=self._mode,
            settings=settings,
            resume=None if self._mode == "offline" else "allow",  # there is nobody to ask
            reinit="create_new",  # other runs of this process may be under way
        )
        sys.exit, sys.excepthook = hooks  # W&B's would outlive it
        return max(arrived, default=-1) if self._mode == "offline" else self._run.step - 1

    def _run_id(self) -> str:
        kept = self._folder / "wandb" / "run_id"
        if not kept.is_file():
            write_whole(kept, secrets.token_hex(6))
        return kept.read_text()
