"""In what two runs of one experiment differ, beside the time that they took."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PluginEventAccumulator
from tensorboard.plugins.hparams import metadata

from normlab.core.run_folder import RunFolder

WALL_CLOCK = ("seconds", "tokens_per_second", "git_commit", "hardware")
"""What may differ in a summary: the checkout may be committed to while a test runs, another test may set threads."""
SAME_SUFFIXES = (".png", ".svg", ".txt", ".md")
SAME_NAMES = ("tokenizer.json", "overrides.yaml", "autopsy.json")
SECONDS = re.compile(rb'"seconds": [^,}]+')


def differences(one: RunFolder, other: RunFolder) -> list[str]:
    """A line for each file, tensor, key, step or tag that differs; empty for runs with the same bytes."""
    found = [*_names(one, other), *_metrics(one, other), *_scalars(one, other)]
    found += _values("summary.json", *(_without_time(run.read_summary()) for run in (one, other)))
    for path in _files(one) & _files(other):
        pair = one.path / path, other.path / path
        if path.suffix == ".safetensors":
            found += _tensors(path, *pair)
        elif path.name == "state.json":
            found += _values(str(path), *(_without_time(json.loads(file.read_bytes())) for file in pair))
        elif path.suffix in (".png", ".txt", ".md", ".svg") or path.name in (
            "tokenizer.json",
            "overrides.yaml",
            "autopsy.json",
        ):
            found += [str(path)] * (pair[0].read_bytes() != pair[1].read_bytes())
    return sorted(found)


def _files(run: RunFolder) -> set[Path]:
    """Every file and link but TensorBoard's, of which each process writes its own."""
    found = {path.relative_to(run.path) for path in run.path.rglob("*")}
    return {path for path in found if path.parts[0] != "tensorboard"}


def _names(one: RunFolder, other: RunFolder) -> Iterator[str]:
    for path in _files(one) ^ _files(other):
        yield f"only one run has {path}"
    for path in _files(one) & _files(other):
        links = [run.path / path for run in (one, other)]
        if links[0].is_symlink() and links[0].readlink() != links[1].readlink():
            yield f"{path} -> {links[0].readlink()} and {links[1].readlink()}"


def _metrics(one: RunFolder, other: RunFolder) -> Iterator[str]:
    lines = [run.metrics.read_bytes().splitlines(keepends=True) for run in (one, other)]
    if len(lines[0]) != len(lines[1]):
        yield f"metrics.jsonl: {len(lines[0])} and {len(lines[1])} lines"
    for number, (left, right) in enumerate(zip(*lines, strict=False), start=1):
        if SECONDS.sub(b"", left) != SECONDS.sub(b"", right):
            yield from _values(f"metrics.jsonl line {number}", *(_without_time(json.loads(x)) for x in (left, right)))
            yield f"metrics.jsonl line {number}"


def _scalars(one: RunFolder, other: RunFolder) -> Iterator[str]:
    left, right = scalars(one), scalars(other)
    for tag in left.keys() | right.keys():
        if left.get(tag) == right.get(tag):
            continue
        steps = [[step for step, _ in events.get(tag, [])] for events in (left, right)]
        twice = [step for step, count in Counter(steps[1]).items() if count > 1]
        missing = sorted(set(steps[0]) - set(steps[1]))
        surplus = sorted(set(steps[1]) - set(steps[0]))
        yield f"tensorboard {tag}: twice {twice}, missing {missing}, surplus {surplus}"


def scalars(run: RunFolder) -> dict[str, list[tuple[int, float | str]]]:
    """Step and value of every scalar by tag, in TensorBoard's order, NaN by name, throughput left out."""
    accumulator = EventAccumulator(str(run.tensorboard), size_guidance={"scalars": 0})
    accumulator.Reload()
    return {
        tag: [(event.step, str(event.value)) for event in accumulator.Scalars(tag)]
        for tag in accumulator.Tags()["scalars"]
        if not tag.startswith("throughput/")
    }


def hparams_status(run: RunFolder) -> int:
    """How the run ended, as TensorBoard's HParams page has it: it keeps the first that it is told."""
    accumulator = PluginEventAccumulator(str(run.tensorboard))
    accumulator.Reload()
    content = accumulator.SummaryMetadata(metadata.SESSION_END_INFO_TAG).plugin_data.content
    return metadata.parse_session_end_info_plugin_data(content).status


def _tensors(name: Path, one: Path, other: Path) -> list[str]:
    if one.read_bytes() == other.read_bytes():
        return []
    with safe_open(one, framework="np") as left, safe_open(other, framework="np") as right:
        names = set(left.keys()) ^ set(right.keys())
        both = set(left.keys()) & set(right.keys())
        names |= {key for key in both if left.get_tensor(key).tobytes() != right.get_tensor(key).tobytes()}
    return [f"{name}: {key}" for key in names] or [str(name)]


def _values(name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return [f"{name}: {key}" for key in one.keys() | other.keys() if one.get(key) != other.get(key)]


def _without_time(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in WALL_CLOCK}
