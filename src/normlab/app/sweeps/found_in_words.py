"""What the searches found, to be said when they have ended."""

from collections.abc import Mapping

from normlab.app.sweeps.over_seeds import best_rate_over_seeds, stable_rate_over_seeds
from normlab.app.sweeps.rates import RateGrid
from normlab.app.sweeps.search import Found


def found_in_words(name: str, found: Mapping[int, Found], grid: RateGrid) -> list[str]:
    """Lines on one variant, whose searches are given by seed: both rates, the runs it took, and what is in doubt."""
    searches = list(found.values())
    stable, best = stable_rate_over_seeds(searches, grid), best_rate_over_seeds(searches, grid)
    num_runs, num_grid_runs = sum(one.num_runs for one in searches), sum(one.num_grid_runs for one in searches)
    lines = [
        f"{name}: survives up to {'-' if stable is None else stable.text}, is best at "
        f"{'-' if best is None else best.text}; {num_runs} runs in place of {num_grid_runs}."
    ]
    for seed, one in found.items():
        if one.remark is not None:
            lines.append(f"{name}, seed {seed}: {one.remark}.")
        if one.frontier.survived_beyond:
            lines.append(f"{name}, seed {seed}: survival is not a matter of the rate alone: {one.frontier.text}.")
    return lines
