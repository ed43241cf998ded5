"""What a report knows of the runs of a sweep.

A *choice* is what the sweep varied and is no seed and no learning rate, e.g. ``model/norm`` = ``none``. A *variant* is
a set of choices; an *arm* is a variant at one learning rate; runs of one arm differ by seed only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Cause:
    """Why a run died, from its autopsy: the kind of the first non-finite value and its place, None where unknown."""

    kind: str | None
    layer: int | None
    site: str | None


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """One run of a sweep. Losses are in nats per token; what was not measured, or not yet, is None.

    ``outcome`` is None for a run that has not ended; ``steps`` are those it took, ``planned_steps`` those it was to
    take. ``bytes_per_token`` is of the validation text, for bits per byte.
    """

    name: str
    folder: Path
    choices: Mapping[str, str]
    lr: float | None
    seed: int
    fingerprint: str | None
    outcome: str | None
    steps: int
    planned_steps: int
    tokens: int
    seconds: float
    initial_loss: float | None
    final_train_loss: float | None
    final_val_loss: float | None
    best_val_loss: float | None
    bytes_per_token: float | None
    cause: Cause | None
    facts: Mapping[str, Any]

    @property
    def is_dead(self) -> bool:
        """Whether instability ended it."""
        return self.outcome in ("nonfinite", "diverged")


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """All runs of a sweep, those that have not begun left out; how it was started; what it asks.

    ``claims`` are as the sweep recorded them before its first run; ``varied`` are the keys of the choices, in order,
    each with its values in the order of the command line. ``not_begun`` are the jobs without a folder, as runs of no
    steps; ``remarks`` say in words what could not be read.
    """

    folder: Path
    command: str
    experiment: str | None
    question: str | None
    baseline: Mapping[str, str] | None
    claims: Sequence[Mapping[str, Any]]
    varied: Mapping[str, Sequence[str]]
    runs: Sequence[RunResult]
    num_planned: int
    not_begun: Sequence[RunResult] = ()
    remarks: Sequence[str] = ()
