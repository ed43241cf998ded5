"""Which number of a run counts as its loss."""

import math
from typing import Literal

from normlab.core.run_folder import RESULTS
from normlab.report.results import RunResult

Measure = Literal["final", "best"]


def has_result(run: RunResult) -> bool:
    """Whether the run completed or died; one that was cut short, crashed or goes on tells nothing yet."""
    return run.outcome in RESULTS


def loss_of(run: RunResult, measure: Measure) -> float | None:
    """Validation loss in nats per token; None where there is no finite one.

    ``final`` is that after the last planned step, so a dead run has none; ``best`` is the lowest of those measured
    on the way, also of a run that died afterwards.
    """
    if not has_result(run) or (measure == "final" and run.is_dead):
        return None
    loss = run.final_val_loss if measure == "final" else run.best_val_loss
    return loss if loss is not None and math.isfinite(loss) else None


def capped_loss(run: RunResult) -> float | None:
    """min(final validation loss, loss at initialisation), a dead run at the latter; None without a result.

    So a death counts as having learnt nothing (Wortsman et al. 2023, section 2.2).
    """
    if not has_result(run) or run.initial_loss is None or not math.isfinite(run.initial_loss):
        return None
    loss = loss_of(run, "final")
    if loss is None and not run.is_dead:
        return None
    return run.initial_loss if loss is None else min(loss, run.initial_loss)
