"""Which statistics a figure of growth shows, over which steps, with the part of the story that is about each."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from normlab.autopsy.story import Crossing, Growth, History, Series, Story
from normlab.telemetry.places import SITES

TITLES = {
    "train_loss": "training loss",
    "grad_norm": "gradient norm, before clipping",
    "attention_logit_max": "largest attention logit",
    "attention_entropy": "attention entropy, nats",
}
SITE_TITLES = {
    "residual": "residual stream",
    "attention": "attention output",
    "ffn_hidden": "feed-forward hidden",
    "ffn": "feed-forward output",
}
MEASURES = {"activation_rms": "RMS", "activation_absmax": "largest magnitude"}
TIMES_THE_GROWTH, FEWEST_STEPS = 2.5, 25
"""So many times the steps from the first growth to the end are shown, and not fewer than so many."""


@dataclass(frozen=True)
class Panel:
    """A statistic: a line by layer, or one under None; the growths and crossings of these lines."""

    title: str
    lines: Mapping[int | None, Series]
    growths: Sequence[Growth]
    crossings: Sequence[Crossing]


def panels_of(history: History, story: Story) -> tuple[int, list[Panel]]:
    """The first step to be shown, and the panels that have something to show from there on; none of a single step."""
    first_step = _first_step(history, story)
    panels = [_panel(history, story, title, quantity) for quantity, title in _quantities(story).items()]
    shown = [_with_visible_lines(panel, first_step) for panel in panels]
    steps = {int(step) for panel in shown for series in panel.lines.values() for step in series.steps}
    return first_step, [panel for panel in shown if panel.lines] if len(steps) > 1 else []


def finite_part(series: Series, first_step: int) -> Series:
    """What has a place on a logarithmic scale."""
    is_shown = np.isfinite(series.values) & (series.values > 0) & (series.steps >= first_step)
    return Series(series.steps[is_shown], series.values[is_shown])


def _quantities(story: Story) -> dict[str, str]:
    """Titles by quantity; of each site the measure of which the story tells, else the RMS."""
    told = [event.tag for event in (*story.growths, *story.crossings)]
    chosen = dict(TITLES)
    for site in SITES:
        measures = [tag.partition("/")[0] for tag in told if tag.split("/")[1:2] == [site]]
        measure = next((measure for measure in measures if measure in MEASURES), "activation_rms")
        chosen[f"{measure}/{site}"] = f"{SITE_TITLES[site]}, {MEASURES[measure]}"
    return chosen


def _panel(history: History, story: Story, title: str, quantity: str) -> Panel:
    lines: dict[int | None, Series] = {}
    layer_of: dict[str, int | None] = {}
    for tag, series in history.items():
        found = re.fullmatch(rf"{quantity}(?:/layer_(\d+))?", tag)
        if found is not None:
            layer_of[tag] = None if found[1] is None else int(found[1])
            lines[layer_of[tag]] = series
    growths = [growth for growth in story.growths if growth.tag in layer_of]
    crossings = [crossing for crossing in story.crossings if crossing.tag in layer_of]
    in_order = sorted(lines, key=lambda layer: -1 if layer is None else layer)
    return Panel(title, {layer: lines[layer] for layer in in_order}, growths, crossings)


def _with_visible_lines(panel: Panel, first_step: int) -> Panel:
    lines = {layer: series for layer, series in panel.lines.items() if finite_part(series, first_step).steps.size}
    crossings = [crossing for crossing in panel.crossings if crossing.step >= first_step]
    return Panel(panel.title, lines, panel.growths, crossings)


def _first_step(history: History, story: Story) -> int:
    earliest = min((int(series.steps[0]) for series in history.values() if series.steps.size), default=1)
    begins = [growth.began_at for growth in story.growths]
    begins += [crossing.step for crossing in story.crossings if crossing.step > earliest]
    wanted = round(TIMES_THE_GROWTH * (story.end_step - min(begins, default=story.end_step)))
    return max(earliest, story.end_step - max(FEWEST_STEPS, wanted))
