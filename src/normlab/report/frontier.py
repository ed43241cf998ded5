"""The largest stable learning rate, as far as a grid of rates tells."""

from collections.abc import Sequence
from dataclasses import dataclass

from normlab.report.losses import has_result
from normlab.report.results import RunResult


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """Where survival ends: the true frontier lies in [``lr``, ``next_dead``).

    ``lr`` is the largest rate tried at which, and at all smaller ones tried, every run survived; None where the
    smallest kills. ``next_dead`` is the smallest rate that kills, None where none does: then the frontier lies beyond
    the grid. ``survived_beyond`` are larger rates at which every run survived nonetheless: then survival is no matter
    of the rate alone, and one number says too little.
    """

    lr: float | None
    next_dead: float | None
    survived_beyond: tuple[float, ...]
    num_runs: int

    @property
    def text(self) -> str:
        """``0.01 (next tried: 0.03, dead)``."""
        if self.num_runs == 0:
            return "no run has a result"
        if self.lr is None:
            return f"below {self.next_dead:g}, the smallest tried"
        said = "the largest tried" if self.next_dead is None else f"{self.next_dead:g} kills"
        beyond = ", ".join(f"{lr:g}" for lr in self.survived_beyond)
        return f"{self.lr:g} ({said}{f', yet {beyond} survived' if beyond else ''})"


def frontier(runs: Sequence[RunResult]) -> Frontier:
    """Of runs that have a result and a rate: of one seed, or of all seeds together."""
    has_death: dict[float, bool] = {}
    counted = [(run.lr, run.is_dead) for run in runs if has_result(run) and run.lr is not None]
    for lr, is_dead in counted:
        has_death[lr] = has_death.get(lr, False) or is_dead
    next_dead = min((lr for lr, is_dead in has_death.items() if is_dead), default=None)
    alive = sorted(lr for lr, is_dead in has_death.items() if not is_dead)
    return Frontier(
        lr=max((lr for lr in alive if next_dead is None or lr < next_dead), default=None),
        next_dead=next_dead,
        survived_beyond=tuple(lr for lr in alive if next_dead is not None and lr > next_dead),
        num_runs=len(counted),
    )


def frontier_by_seed(runs: Sequence[RunResult]) -> dict[int, Frontier]:
    """The frontier of each seed."""
    seeds = sorted({run.seed for run in runs})
    return {seed: frontier([run for run in runs if run.seed == seed]) for seed in seeds}
