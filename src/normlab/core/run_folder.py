"""The run folder: the one place that knows what its files are called and how they are read."""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from normlab.core.errors import CheckpointError
from normlab.core.files import clear_leftovers, write_whole
from normlab.core.records import Outcome, encode_json
from normlab.core.strict_json import parse_strict_json, read_strict_json

LOCK = ".lock"
RESULTS = (Outcome.COMPLETED, Outcome.DIVERGED, Outcome.NONFINITE)


@dataclass(frozen=True)
class RunFolder:
    """One training, one folder. See the README for what each file holds."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """One JSON object a step."""
        return self.path / "metrics.jsonl"

    @property
    def summary(self) -> Path:
        """Outcome, losses, sizes and provenance."""
        return self.path / "summary.json"

    @property
    def tokenizer(self) -> Path:
        """The vocabulary and merges that the run was trained with."""
        return self.path / "tokenizer.json"

    @property
    def samples(self) -> Path:
        """Generated text."""
        return self.path / "samples.txt"

    @property
    def evaluations(self) -> Path:
        """One JSON object for every later evaluation."""
        return self.path / "evaluations.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints: step_N, and the links last, best and last_finite."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard events."""
        return self.path / "tensorboard"

    @property
    def lock(self) -> Path:
        """The file that the process which writes the folder holds a lock on."""
        return self.path / LOCK

    @property
    def figures(self) -> Path:
        """The folder of pictures."""
        return self.path / "figures"

    @property
    def autopsy_json(self) -> Path:
        """Why the run died, for programs."""
        return self.path / "autopsy.json"

    @property
    def autopsy_markdown(self) -> Path:
        """Why the run died, for people."""
        return self.path / "autopsy.md"

    @property
    def bundle(self) -> Path:
        """The folder of what the fatal step started from: a checkpoint, and the batch."""
        return self.path / "autopsy"

    @property
    def recomputed_steps(self) -> Path:
        """The records of the last steps, taken again with every statistic read."""
        return self.path / "autopsy_steps.jsonl"

    @classmethod
    def existing(cls, path: str | Path, key: str) -> "RunFolder":
        """The run folder at ``path``, named by the configuration key ``key``; raises where there is none."""
        folder = cls(Path(path))
        if not folder.config.is_file():
            raise CheckpointError(
                f"{key} must name a run folder (one with a config.yaml); got '{path}'. "
                f"Type {key}=outputs/<date>/<time>, as printed at the end of a run."
            )
        return folder

    def discard_if_unused(self) -> None:
        """Remove the folder where it holds nothing but Hydra's notes, and the two parents where this leaves them empty.

        The working directory stays.
        """
        if {entry.name for entry in self.path.iterdir()} - {LOCK} != {".hydra"}:
            return
        with suppress(OSError):  # a folder that cannot be removed is no reason to hide what was said of the run
            shutil.rmtree(self.path / ".hydra")
            self.lock.unlink(missing_ok=True)
            for folder in (self.path, *list(self.path.parents)[:2]):
                if any(folder.iterdir()) or folder.samefile(Path.cwd()):
                    return
                folder.rmdir()

    def read_summary(self) -> dict[str, Any]:
        """The summary, or an empty one where the run has not ended; raises CheckpointError for a damaged one."""
        if not self.summary.is_file():
            return {}
        try:
            summary = read_strict_json(self.summary)
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{self.summary} is damaged: {error}. Delete it, then resume the run.") from None
        if not isinstance(summary, dict):
            raise CheckpointError(f"{self.summary} must hold a JSON object. Delete it, then resume the run.")
        return summary

    def result(self) -> Outcome | None:
        """How the run ended, where it has a result; None where it goes on when it is resumed."""
        outcome = self.read_summary().get("outcome")
        return Outcome(outcome) if outcome in RESULTS else None

    def clear_leftovers(self) -> None:
        """Remove what a killed process had begun to write; nobody may be writing."""
        clear_leftovers(self.path, "|".join(map(re.escape, self._own_names())))
        clear_leftovers(self.checkpoints, r"step_\d+|last|best|last_finite")
        for folder in (self.figures, self.bundle):
            clear_leftovers(folder, r".+")

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """Replace the summary."""
        write_whole(self.summary, encode_json(summary, indent=2) + "\n")

    def read_metrics(self) -> Iterator[dict[str, Any]]:
        """The records of all steps in order; a last line that a killed process left incomplete is passed over."""
        yield from _records_in(self.metrics)

    def read_recomputed_steps(self) -> Iterator[dict[str, Any]]:
        """The records of the last steps before a death, where some were taken again."""
        yield from _records_in(self.recomputed_steps)

    def forget_metrics_after(self, step: int) -> int:
        """Drop the records of later steps, which a resumed run takes again; return how many are left."""
        kept = [encode_json(record) + "\n" for record in self.read_metrics() if record["step"] <= step]
        write_whole(self.metrics, "".join(kept))
        return len(kept)

    @classmethod
    def _own_names(cls) -> list[str]:
        folder = cls(Path())
        return [str(getattr(folder, name)) for name, value in vars(cls).items() if isinstance(value, property)]


def _records_in(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        return
    with path.open("rb") as lines:  # a torn line may end within a character
        for number, line in enumerate(lines, start=1):
            if line.endswith(b"\n"):
                yield _record_of(line, number, path)


def _record_of(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        record = parse_strict_json(line)
    except ValueError:
        record = None
    if not isinstance(record, dict) or type(record.get("step")) is not int:
        raise CheckpointError(
            f"Every line of {path} must be a JSON object with its step; line {number} is none. "
            "Delete that line to go on without it."
        )
    return record
