"""Sets of variants in few words."""

from collections.abc import Sequence

from normlab.report.number_words import quoted
from normlab.report.results import SweepResult
from normlab.report.variants import Variant, baseline_of, label_of


def row_name(variant: Variant, sweep: SweepResult) -> str:
    """Its label, and whether it is the baseline."""
    return f"{label_of(variant)}{' (baseline)' if variant == baseline_of(sweep) else ''}"


def together(variants: Sequence[Variant], every: Sequence[Variant], all_of_them: str = "all variants") -> str:
    """In few words where these are all, all but one, or just those that share some choices; else their labels."""
    rest = [variant for variant in every if variant not in variants]
    if len(variants) > 1 and not rest:
        return all_of_them
    if len(variants) > 2 and len(rest) == 1:
        return f"{all_of_them} but {label_of(rest[0])}"
    if len(variants) > 1:
        shared = tuple(choice for choice in variants[0] if all(choice in variant for variant in variants))
        for choices in (*((choice,) for choice in shared), shared):
            if {variant for variant in every if set(choices) <= set(variant)} == set(variants):
                return f"all with {label_of(choices)}"
    return quoted([label_of(variant) for variant in variants])
