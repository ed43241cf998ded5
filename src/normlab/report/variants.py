"""Runs grouped by what they have in common, in the order of the command line, and what to call a group."""

from collections.abc import Mapping, Sequence

from normlab.report.results import RunResult, SweepResult

Variant = tuple[tuple[str, str], ...]
SEPARATOR = ", "


def variant_of(run: RunResult) -> Variant:
    """The run's choices, fit to be a key."""
    return tuple(run.choices.items())


def by_variant(sweep: SweepResult) -> dict[Variant, list[RunResult]]:
    """The runs of each variant, by rate and seed; variants in the order of the command line."""
    grouped: dict[Variant, list[RunResult]] = {}
    for run in in_order(sweep, sweep.runs):
        grouped.setdefault(variant_of(run), []).append(run)
    return grouped


def in_order(sweep: SweepResult, runs: Sequence[RunResult]) -> list[RunResult]:
    """By choices in the order of the command line, then rate, then seed, then name."""

    def place(run: RunResult) -> tuple[object, ...]:
        choices = tuple(_place(sweep.varied[key], run.choices.get(key, "")) for key in sweep.varied)
        return (choices, tuple(run.choices.items()), *rate_place(run.lr), run.seed, run.name)

    return sorted(runs, key=place)


def rate_place(lr: float | None) -> tuple[int, float]:
    """Where a rate sorts: unknown ones first."""
    return (0, 0.0) if lr is None else (1, lr)


def baseline_of(sweep: SweepResult) -> Variant | None:
    """The first variant with all choices of the sweep's baseline; without one recorded, the first of all.

    None where no run of the baseline has begun.
    """
    wanted = dict(sweep.baseline or {})
    return next((variant for variant in by_variant(sweep) if wanted.items() <= dict(variant).items()), None)


def label_of(choices: Mapping[str, str] | Variant, lr: float | None = None) -> str:
    """``norm=none, clamp=hard``, and the rate where there is one; ``all runs`` where nothing varies."""
    parts = [f"{short_key(key)}={value}" for key, value in dict(choices).items()]
    if lr is not None:
        parts.append(f"lr={lr:g}")
    return SEPARATOR.join(parts) or "all runs"


def short_key(key: str) -> str:
    """The last part of a key: of its place, where it names one (``model/norm@model.qk_norm`` is ``qk_norm``)."""
    return key.rpartition("@")[2].replace("/", ".").rpartition(".")[2]


def _place(values: Sequence[str], value: str) -> int:
    return list(values).index(value) if value in values else len(values)
