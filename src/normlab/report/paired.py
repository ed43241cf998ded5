"""Differences between two groups of runs on the seeds that both have, and what they prove.

Why a paired t test: runs of one seed share their batches and all weights that both have, so the differences scatter
less than the losses. Sweeps have three to five seeds. With n of them an exact sign-flip test cannot give a p below
2 / 2^n, nor Wilcoxon's signed ranks: 0.25 for three, 0.0625 for five, so neither could find anything before six. The t
test with n - 1 degrees of freedom can; it pays with the supposition that the differences are about normal, which so
few seeds cannot check. A p near the bound is therefore to be read with caution.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from normlab.report.intervals import Mean, mean_of

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class PairedDifference:
    """Of each shared seed: one side less the other; their mean; and the p of the two-sided paired t test.

    p is None for fewer than two shared seeds. Where all differences are the same number p is 1 for none and else 0.
    """

    by_seed: Mapping[int, float]
    mean: Mean | None
    p: float | None


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> PairedDifference:
    """``values`` less ``reference``, by seed."""
    by_seed = {seed: values[seed] - reference[seed] for seed in sorted(values.keys() & reference.keys())}
    differences = list(by_seed.values())
    return PairedDifference(by_seed, mean_of(differences), _p_of(differences))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Adjusted for their number after Holm (1979): the i-th smallest of m becomes max over j <= i of (m - j + 1) p_j.

    So the chance of a single false finding among all of them stays below the bound that one p would have. What is
    None was not tested, is not counted, and stays None.
    """
    tested = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for place, (p, index) in enumerate(tested):
        largest = max(largest, min(1.0, (len(tested) - place) * p))
        adjusted[index] = largest
    return adjusted


def _p_of(differences: Sequence[float]) -> float | None:
    if len(differences) < 2:
        return None
    scale = max(map(abs, differences))
    if float(np.std(differences, ddof=1)) <= 1e-12 * scale:
        return 1.0 if math.isclose(scale, 0.0, abs_tol=1e-300) else 0.0
    return float(np.asarray(stats.ttest_1samp(differences, 0.0))[1])
