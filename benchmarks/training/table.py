"""The rows of the table: kept in a file of JSON lines, printed as Markdown."""

import json
import statistics
from pathlib import Path
from typing import Any

from training.contestants import AUTO, EAGER, PROJECT_BEST, Contestant
from training.machine import PRECISIONS, Peak
from training.shapes import Shape

COLUMNS = (
    "contestant",
    "settings",
    "tokens/s",
    "quartiles",
    "GFLOP/s",
    "of faster peak",
    "of bf16 peak",
    "peak memory",
    "normlab is faster by",
)
OURS = (AUTO, EAGER, PROJECT_BEST)


def rows_of(
    shape: Shape,
    flops: int,
    contestants: list[Contestant],
    seconds: list[list[float]],
    peak: Peak,
    memory: dict[str, int | None],
    head: dict[str, str],
) -> dict[str, Any]:
    """What was measured of one configuration."""
    project = next(own for contestant, own in zip(contestants, seconds, strict=True) if contestant.name == AUTO)
    rows = []
    for contestant, own in zip(contestants, seconds, strict=True):
        speeds = sorted(shape.tokens_per_step / each for each in own)
        ratios = [theirs / ours for theirs, ours in zip(own, project, strict=True)]  # of the same round
        low, _, high = statistics.quantiles(speeds, n=4) if len(speeds) > 1 else speeds * 3
        rows.append(
            {
                "contestant": contestant.name,
                "settings": contestant.settings,
                "num_parameters": contestant.num_parameters,
                "tokens_per_second": statistics.median(speeds),
                "low": low,
                "high": high,
                "flops_per_second": flops / statistics.median(own),
                "peak_bytes": memory.get(contestant.name),
                "normlab_is_faster_by": statistics.median(ratios),
            }
        )
    rates = {name: sorted(peak.rates[name]) for name in PRECISIONS}
    return {
        "kind": "rows",
        "shape": str(shape),
        "name": shape.name,
        "clamp": shape.clamp,
        "flops_per_token": flops / shape.tokens_per_step,
        "rounds": len(project),
        "peak": rates,
        "head": head,
        "rows": rows,
    }


def markdown(entry: dict[str, Any]) -> str:
    """One configuration: a line on it and its peak, and a row for each contestant."""
    peaks = {name: statistics.median(entry["peak"][name]) for name in PRECISIONS}
    said = [
        f"{name} {_giga(peaks[name])} ({_giga(entry['peak'][name][0])} to {_giga(entry['peak'][name][-1])})"
        for name in PRECISIONS
    ]
    clamp_note = "; the libraries run without a clamp" if entry["clamp"] != "none" else ""
    lines = [
        f"### {entry['shape']}",
        "",
        f"Matrix peak in GFLOP/s: {', '.join(said)}. {entry['flops_per_token'] / 1e6:.1f} MFLOP a token, "
        f"{entry['rounds']} rounds{clamp_note}.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|---|---|" + "---:|" * (len(COLUMNS) - 2),
    ]
    for row in entry["rows"]:
        rate = row["flops_per_second"]
        cells = [
            row["contestant"],
            row["settings"],
            f"{row['tokens_per_second']:,.0f}",
            f"{row['low']:,.0f} to {row['high']:,.0f}",
            _giga(rate),
            f"{rate / max(peaks.values()):.0%}",
            f"{rate / peaks['bfloat16']:.0%}",
            "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 2**20:,.0f} MiB",
            "" if row["contestant"] == AUTO else f"{row['normlab_is_faster_by']:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    best_peer = min(
        (row for row in entry["rows"] if row["contestant"] not in OURS),
        key=lambda row: row["normlab_is_faster_by"],
        default=None,
    )
    if best_peer is not None:
        lines += [
            "",
            f"Fastest peer: {best_peer['contestant']}; normlab {best_peer['normlab_is_faster_by']:.2f} times.",
        ]
    return "\n".join([*lines, ""])


def markdown_head(head: dict[str, str]) -> str:
    """Where and with what the rows that follow were measured."""
    return "\n".join(f"- {key}: {value}" for key, value in head.items()) + "\n"


def _giga(rate: float) -> str:
    return f"{rate / 1e9:,.0f}"


class Ledger:
    """A file of JSON lines that runs add to; without a path nothing is kept."""

    def __init__(self, path: Path | None):
        self.path = path

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """In the order in which they were added."""
        if self.path is None or not self.path.is_file():
            return []
        entries = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [entry for entry in entries if entry["kind"] == kind]

    def find(self, kind: str, asked: dict[str, str]) -> dict[str, Any] | None:
        """The entry that says all of what is asked."""
        return next((entry for entry in self.entries(kind) if asked.items() <= entry.items()), None)

    def add(self, entry: dict[str, Any]) -> None:
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
