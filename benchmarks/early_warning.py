"""Does the early warning warn of what comes? 64 runs, some of which die, are read as if they were watched less often.

python benchmarks/early_warning.py FOLDER
python benchmarks/early_warning.py FOLDER --figure forecasts.png

Runs that have a result in FOLDER are not trained again. What follows was fixed before any of them was trained.

- A run *dies* where its outcome is nonfinite or diverged, at its ``outcome_step``. One that completed lived, even where
  its last validation met a NaN; how many did is said.
- Everything is read from metrics.jsonl. To be watched every n steps is to keep telemetry at step 1, at multiples of n
  and at a fatal step that met a NaN; the loss and the total gradient norm are there at every step, as they always are.
- A warning given at step s for step c is *borne out* within factor f where the run dies after s and no later than
  s + f (c - s). The factor is 2; 1 and 3 are there to show what it decides. A window that outlasts a run which lived
  counts as not borne out; how many did is said.
- A death is *announced* by a warning that is borne out, *warned of* by any warning before it. The lead is the death's
  step minus that of the first such warning. A *false alarm* is a run that lived and was warned.
- Two trivial predictors: the first step at which the gradient norm is above 10 times the median of all its earlier
  values (at least 10), and the first reading of a largest attention logit above 50, in runs with the naive softmax.

Intervals are Wilson's, 95 %; they take runs for independent, which runs of one arm are not quite.
"""

import argparse
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from early_warning_runs import ARMS, SOFTMAXES, Run, trained

from normlab.autopsy.early_warning import EarlyWarning, Forecast
from normlab.autopsy.thresholds import harmless_level
from normlab.core.records import decode_number
from normlab.telemetry.instruments import is_due

INTERVALS = (1, 5, 10, 25, 50)
FACTOR, FACTORS = 2.0, (1.0, 2.0, 3.0)
LARGE_GRADIENT, LEAST_HISTORY = 10.0, 10
LARGE_LOGIT, HARMLESS_LOGIT = 50.0, harmless_level("attention_logit_max")
SOON_STEPS = 50


def main() -> None:
    """Train what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--figure", type=Path, help="a PNG of forecasts against what came")
    arguments = parser.parse_args()
    runs = trained(arguments.folder)
    print_outcomes(runs)
    by_interval = {every: {run.name: warnings_of(run, every) for run in runs} for every in INTERVALS}
    print_table(runs, by_interval)
    print_splits(runs, by_interval)
    print_rivals(runs, by_interval)
    print_suddenness(runs, by_interval[1])
    if arguments.figure is not None:
        draw(runs, by_interval[1], arguments.figure)


# What was said, and what of it came true.


def warnings_of(run: Run, every: int) -> list[Forecast]:
    """All that is said before the run's last step, if that was fatal."""
    warning = EarlyWarning(run.limits)
    given = [forecast for record in run.records_at(every) for forecast in warning.observe(record)]
    if every == 1:
        noted = [note for record in run.records for note in record.get("notes", ()) if " will pass " in note]
        if noted != [str(forecast) for forecast in given]:
            raise AssertionError(f"{run.name} noted other warnings while it was trained: {noted}")
    return [forecast for forecast in given if run.death is None or forecast.step < run.death]


def is_borne_out(run: Run, forecast: Forecast, factor: float) -> bool:
    """Whether the run died after the warning, and soon enough."""
    return run.death is not None and 0 < run.death - forecast.step <= factor * (forecast.crosses_at - forecast.step)


def outlasts(run: Run, forecast: Forecast, factor: float) -> bool:
    """Whether the warning of a run that lived could still have come true when the run was over."""
    last_step = run.records[-1]["step"]
    return run.death is None and forecast.step + factor * (forecast.crosses_at - forecast.step) > last_step


def first_announcement(run: Run, given: Iterable[Forecast], factor: float) -> Forecast | None:
    """The first warning that was borne out."""
    return next((forecast for forecast in given if is_borne_out(run, forecast, factor)), None)


def alarm_of_gradient(run: Run) -> int | None:
    """The first step with a gradient norm above so many times the running median."""
    earlier: list[float] = []
    for record in run.records:
        norm = decode_number(record["grad_norm"])
        if len(earlier) >= LEAST_HISTORY and norm > LARGE_GRADIENT * statistics.median(earlier):
            return record["step"]
        if math.isfinite(norm):
            earlier.append(norm)
    return None


def alarm_of_logit(run: Run, every: int) -> int | None:
    """The first reading of a large attention logit where the softmax is naive."""
    logits = run.largest_logits() if run.softmax == "naive" else {}
    return next((step for step, logit in logits.items() if logit > LARGE_LOGIT and is_due(step, every)), None)


# Tables, in Markdown.


class Share(NamedTuple):
    """So many of so many, with Wilson's interval."""

    part: int
    whole: int

    def __str__(self) -> str:
        if self.whole == 0:
            return "0 of 0"
        z, n, p = 1.96, self.whole, self.part / self.whole
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        low, high = max(middle - half, 0.0), min(middle + half, 1.0)
        return f"{self.part} of {n} ({p:.0%}; {low:.0%} to {high:.0%})"


def spread(values: Sequence[float]) -> str:
    """Median and range."""
    if not values:
        return "-"
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def row(*cells: object) -> None:
    """A line of a table."""
    print("|", " | ".join(str(cell) for cell in cells), "|")


def head(*cells: str) -> None:
    """The first two lines of a table."""
    print()
    row(*cells)
    row(*["---"] * len(cells))


Given = dict[str, list[Forecast]]


def print_outcomes(runs: Sequence[Run]) -> None:
    """How many died in each arm, of what and when."""
    head("arm", "softmax", "runs", "died", "at step, median (range)", "of", "lived, validation NaN")
    for arm in ARMS:
        for softmax in SOFTMAXES:
            own = [run for run in runs if (run.arm, run.softmax) == (arm, softmax)]
            died = [run for run in own if run.death is not None]
            causes = ", ".join(f"{number} {cause}" for cause, number in Counter(run.cause for run in died).items())
            row(
                arm,
                softmax,
                len(own),
                len(died),
                spread([run.death for run in died if run.death]),
                causes or "-",
                sum(run.ends_in_nan for run in own if run.death is None),
            )


def print_table(runs: Sequence[Run], by_interval: dict[int, Given]) -> None:
    """Recall, lead, false alarms, precision and error, by interval."""
    died = [run for run in runs if run.death is not None]
    lived = [run for run in runs if run.death is None]
    precisions = [f"borne out x{f:g}" for f in FACTORS]
    head("every", "announced", "lead in steps", "warned of at all", "false alarms", *precisions)
    for every, given in by_interval.items():
        leads = leads_of(died, given)
        warnings = [(run, forecast) for run in runs for forecast in given[run.name]]
        shares = [Share(sum(is_borne_out(*one, f) for one in warnings), len(warnings)) for f in FACTORS]
        warned_of = Share(sum(bool(given[run.name]) for run in died), len(died))
        alarms = Share(sum(bool(given[run.name]) for run in lived), len(lived))
        row(every, Share(len(leads), len(died)), spread(leads), warned_of, alarms, *shares)
    head("every", *(f"announced x{f:g}" for f in FACTORS), "windows that outlast the run (x2)")
    for every, given in by_interval.items():
        shares = [Share(len(leads_of(died, given, f)), len(died)) for f in FACTORS]
        row(every, *shares, sum(outlasts(run, one, FACTOR) for run in lived for one in given[run.name]))
    ratio = "steps forecast / steps that came"
    head("every", f"first warning: {ratio}", f"last warning: {ratio}", "last warning: step forecast - death")
    for every, given in by_interval.items():
        ends = [(run, given[run.name][0], given[run.name][-1]) for run in died if given[run.name]]
        row(
            every,
            spread([(first.crosses_at - first.step) / (run.death - first.step) for run, first, _ in ends if run.death]),
            spread([(last.crosses_at - last.step) / (run.death - last.step) for run, _, last in ends if run.death]),
            spread([last.crosses_at - run.death for run, _, last in ends if run.death]),
        )


def leads_of(died: Iterable[Run], given: Given, factor: float = FACTOR) -> list[int]:
    """Of the deaths that were announced, how long before."""
    found = ((run.death, first_announcement(run, given[run.name], factor)) for run in died)
    return [death - first.step for death, first in found if death is not None and first is not None]


def print_splits(runs: Sequence[Run], by_interval: dict[int, Given]) -> None:
    """The same by cause of death, by softmax, by arm and by the statistic that the warning stood on."""
    died = [run for run in runs if run.death is not None]
    groups: dict[str, list[Run]] = {}
    for run in died:
        for name in (f"cause: {run.cause}", f"softmax: {run.softmax}", f"arm: {run.arm}"):
            groups.setdefault(name, []).append(run)
    head("deaths", *(f"announced, every {every}" for every in INTERVALS), "lead, every 1", "steps lived")
    for name, own in sorted(groups.items()):
        announced = [f"{len(leads_of(own, by_interval[every]))} of {len(own)}" for every in INTERVALS]
        row(name, *announced, spread(leads_of(own, by_interval[1])), spread([run.death for run in own if run.death]))
    head("warning stands on", *(f"borne out, every {every}" for every in INTERVALS))
    on = {forecast.tag.split("/")[0] for given in by_interval.values() for own in given.values() for forecast in own}
    for statistic in sorted(on):
        cells = []
        for given in by_interval.values():
            own = [(run, one) for run in runs for one in given[run.name] if one.tag.split("/")[0] == statistic]
            cells.append(f"{sum(is_borne_out(*one, FACTOR) for one in own)} of {len(own)}")
        row(statistic, *cells)


def print_rivals(runs: Sequence[Run], by_interval: dict[int, Given]) -> None:
    """First alarms of the early warning and of two trivial predictors, counted in the same way, run by run."""
    rivals: dict[str, dict[str, int | None]] = {"gradient norm": {run.name: alarm_of_gradient(run) for run in runs}}
    for every, given in by_interval.items():
        first = {name: forecasts[0].step if forecasts else None for name, forecasts in given.items()}
        rivals[f"early warning, every {every}"] = first
        rivals[f"attention logit, every {every}"] = {run.name: alarm_of_logit(run, every) for run in runs}
    for softmaxes in (SOFTMAXES, ("naive",)):
        print(f"\nsoftmax: {' and '.join(softmaxes)}")
        own = [run for run in runs if run.softmax in softmaxes]
        head(
            "first alarm",
            "deaths after one",
            "lead in steps",
            "lived with one",
            f"died within {SOON_STEPS} steps of it",
        )
        for name, alarms in sorted(rivals.items(), key=lambda one: one[0].split(",")[0]):
            print_rival(name, own, alarms)


def print_rival(name: str, runs: Sequence[Run], alarms: dict[str, int | None]) -> None:
    """A row for one predictor."""
    died = [run for run in runs if run.death is not None]
    lived = [run for run in runs if run.death is None]
    leads = [run.death - at for run in died if run.death and (at := alarms[run.name]) is not None and at < run.death]
    false_alarms = sum(alarms[run.name] is not None for run in lived)
    soon = Share(sum(lead <= SOON_STEPS for lead in leads), len(leads) + false_alarms)
    row(name, Share(len(leads), len(died)), spread(leads), Share(false_alarms, len(lived)), soon)


def print_suddenness(runs: Sequence[Run], given: Given) -> None:
    """Added when the runs were known: how sudden deaths were, and how close runs came that were warned and lived."""
    columns = "deaths, naive", "steps since logits were harmless", "logit a step before", "peak where warned and lived"
    head("arm", *columns)
    for arm in ARMS:
        own = [(run, run.largest_logits()) for run in runs if (run.arm, run.softmax) == (arm, "naive")]
        died = [(run.death, logits) for run, logits in own if run.death is not None]
        since = [death - last_harmless(logits, before=death) for death, logits in died]
        late = [logits[death - 1] for death, logits in died if death > 1]
        peaks = [max(logits.values()) for run, logits in own if run.death is None and given[run.name]]
        row(arm, len(died), spread(since), spread(late), spread(peaks))


def last_harmless(logits: dict[int, float], before: int) -> int:
    """The last step before another with logits that healthy networks have; 0 where there is none."""
    return max((step for step, logit in logits.items() if step < before and logit <= HARMLESS_LOGIT), default=0)


def draw(runs: Sequence[Run], given: Given, path: Path) -> None:
    """Every warning of the runs that died: steps forecast against steps that came."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axes = figure.add_subplot()
    came = [(one.crosses_at - one.step, run.death - one.step) for run in runs if run.death for one in given[run.name]]
    axes.scatter([said for said, _ in came], [was for _, was in came], alpha=0.6)
    ends = (0.8, 60.0)
    axes.plot(ends, ends, color="black", linewidth=1, label="as forecast")
    axes.fill_between(ends, 0.8, [FACTOR * end for end in ends], color="black", alpha=0.08, label="borne out")
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, xlabel="steps forecast", ylabel="steps until the death")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
