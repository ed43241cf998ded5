"""Sets of variants in few words."""

from collections.abc import Sequence

from normlab.report.number_words import quoted
from normlab.report.results import SweepResult
from normlab.report.variants import Variant, baseline_of, label_of


def row_name(variant: Variant, sweep: SweepResult) -> str:
    """Its label, and whether it is the baseline."""
    return f"{label_of(variant)}{' (baseline)' if variant == baseline_of(sweep) else ''}"


def together(variants: Sequence[Variant], every: Sequence[Variant]) -> str:
    """``all with norm=none`` where these are just the variants that share a choice, else their labels."""
    if len(variants) > 1:
        for choice in variants[0]:
            if {variant for variant in every if choice in variant} == set(variants):
                return f"all with {label_of((choice,))}"
    return quoted([label_of(variant) for variant in variants])
