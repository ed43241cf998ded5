"""What a finished run says of itself: summary.json, and the closing line on the terminal."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from normlab.app.build import Experiment
from normlab.app.provenance import git_commit, versions
from normlab.core.records import Outcome
from normlab.data.entropy import entropy_per_token
from normlab.train.hardware import describe
from normlab.train.state import RunState


@dataclass
class RunFacts:
    """What is known of a run beside its state; filled as the run is built, so a crash leaves what was known."""

    fingerprint: str
    entropy_per_token: float | None = None
    bytes_per_token: float | None = None
    num_parameters: int | None = None
    hardware: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    cause_of_death: str | None = None

    def learn(self, experiment: Experiment, cache: Path) -> None:
        """Take down what building the experiment has shown."""
        corpus = experiment.corpus
        self.hardware = {**describe(experiment.device), "num_devices": experiment.world.size}
        self.num_parameters = experiment.model.num_parameters()
        self.entropy_per_token = entropy_per_token(experiment.source, "valid", len(corpus.valid), cache)
        num_bytes = corpus.num_valid_bytes
        self.bytes_per_token = None if num_bytes is None else num_bytes / len(corpus.valid)


def summarise(state: RunState, facts: RunFacts) -> dict[str, Any]:
    """The content of summary.json. Losses are in nats per token; what was never measured is null."""
    return {
        "outcome": state.outcome,
        "outcome_step": state.step,
        "initial_loss": state.history.initial_loss,
        "final_train_loss": state.final_train_loss,
        "final_val_loss": state.final_val_loss,
        "best_val_loss": state.best_val_loss,
        "val_entropy": facts.entropy_per_token,
        "bytes_per_token": facts.bytes_per_token,
        "steps": state.step,
        "tokens": state.tokens,
        "seconds": state.seconds,
        "tokens_per_second": state.tokens / state.seconds if state.seconds > 0 else None,
        "loss_spikes": [asdict(spike) for spike in state.spikes.recovered],
        "instabilities": [asdict(event) for event in state.instabilities],
        "num_parameters": facts.num_parameters,
        "fingerprint": facts.fingerprint,
        "versions": versions(),
        "git_commit": git_commit(),
        "hardware": facts.hardware,
        "error": facts.error,
    }


def closing_text(state: RunState, facts: RunFacts) -> str:
    """Outcome, validation loss, and how long it took; of a run that has died the short form of its autopsy."""
    return facts.cause_of_death or f"{state.outcome}: {_what_happened(state, facts)}"


def _what_happened(state: RunState, facts: RunFacts) -> str:
    after = f"after {state.step} steps ({state.seconds:.0f} s)"
    if state.outcome == Outcome.NONFINITE:
        return f"{state.instabilities[-1].what} at step {state.step}"
    if state.outcome in (Outcome.CRASHED, Outcome.OUT_OF_MEMORY):
        return f"{after}: {facts.error}"
    if state.outcome == Outcome.INTERRUPTED:
        return f"stopped {after}"
    loss = f"validation loss {state.final_val_loss:.3f} nats per token {after}"
    if facts.entropy_per_token is not None:
        loss += f"; the grammar's own entropy is {facts.entropy_per_token:.3f}"
    return loss
