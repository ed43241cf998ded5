"""How far a run has come: all that a checkpoint keeps beside weights and optimizer, and a summary reports."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from normlab.core.records import Outcome, StepRecord, decode_number
from normlab.train.instability import Action, Instability
from normlab.train.spikes import Spike, SpikeHistory


@dataclass
class LossHistory:
    """What the divergence criterion remembers of the finite losses so far."""

    initial_loss: float | None = None
    average: float = 0.0
    weight: float = 0.0
    lowest: float = math.inf
    steps_above: int = 0


@dataclass
class RunState:
    """Steps, tokens and seconds so far; losses in nats per token; the outcome once there is one.

    The final losses are those of the last step, the validation loss only where that step measured one.
    """

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    final_train_loss: float | None = None
    final_val_loss: float | None = None
    best_val_loss: float | None = None
    outcome: Outcome | None = None
    history: LossHistory = field(default_factory=LossHistory)
    spikes: SpikeHistory = field(default_factory=SpikeHistory)
    instabilities: list[Instability] = field(default_factory=list)

    @property
    def has_just_gone_back(self) -> bool:
        """True after a step with which training returned to older weights."""
        last = self.instabilities[-1] if self.instabilities else None
        return last is not None and last.action == Action.WENT_BACK and last.step == self.step

    def take(self, record: StepRecord) -> None:
        """Move on to the step of the record."""
        self.step, self.tokens, self.seconds = record.step, record.tokens, record.seconds
        self.final_train_loss, self.final_val_loss = record.train_loss, record.val_loss
        if self.is_best(record.val_loss):
            self.best_val_loss = record.val_loss

    def is_best(self, val_loss: float | None) -> bool:
        """True for a finite validation loss that none so far is below."""
        if val_loss is None or not math.isfinite(val_loss):
            return False
        return self.best_val_loss is None or val_loss <= self.best_val_loss

    def remember_only(self, before: "RunState") -> None:
        """Take over, in place, what an earlier state knew of the losses; spikes that were counted stay counted."""
        vars(self.history).update(vars(before.history))
        vars(self.spikes).update({**vars(before.spikes), "recovered": self.spikes.recovered})

    def as_dict(self) -> dict[str, Any]:
        """Plain values for state.json."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Self:
        """The state that :meth:`as_dict` gave, as JSON carried it. An interrupted run goes on: its outcome is open.

        What an earlier version did not keep begins empty.
        """
        names = ("final_train_loss", "final_val_loss", "best_val_loss")
        losses = {name: decode_number(saved[name]) for name in names if saved[name] is not None}
        outcome = saved["outcome"]
        is_open = outcome is None or outcome == Outcome.INTERRUPTED
        restored = {
            "history": LossHistory(**{**saved["history"], "lowest": decode_number(saved["history"]["lowest"])}),
            "spikes": _spikes_from(saved.get("spikes", {})),
            "instabilities": [_instability_from(event) for event in saved.get("instabilities", [])],
            "outcome": None if is_open else Outcome(outcome),
        }
        return cls(**{**saved, **losses, **restored})


def _spikes_from(saved: dict[str, Any]) -> SpikeHistory:
    if not saved:
        return SpikeHistory()
    recovered = [Spike(**spike) for spike in saved["recovered"]]
    return SpikeHistory(**{**saved, "peak": decode_number(saved["peak"]), "recovered": recovered})


def _instability_from(saved: dict[str, Any]) -> Instability:
    return Instability(**{**saved, "outcome": Outcome(saved["outcome"]), "action": Action(saved["action"])})
