"""A finding and the story before it in sentences that can be read aloud."""

import math
from collections.abc import Sequence

import torch

from normlab.autopsy.autopsy import Autopsy
from normlab.autopsy.finding import Contents, Elements, FirstNonfinite
from normlab.autopsy.place_words import TENSORS, in_layer, place_in_words
from normlab.autopsy.statistic_words import statistic_of
from normlab.autopsy.story import Crossing, Growth, Story
from normlab.autopsy.words import ARGUMENTS, number_in_words, numbers_in_words, operation_in_words
from normlab.core.records import Outcome

PASSES = {"forward": "the forward pass", "backward": "the backward pass", "optimizer": "the optimizer's step"}
STATISTICS_AT = {
    "attention.attend": ("attention_logit_max",),
    "attention_path": ("activation_absmax/residual", "activation_rms/residual"),
    "attention": ("activation_absmax/attention", "activation_rms/attention"),
    "ffn_path": ("activation_absmax/residual", "activation_rms/residual"),
    "ffn": ("activation_absmax/ffn", "activation_rms/ffn"),
    "loss": ("activation_absmax/logits", "activation_rms/logits"),
    "head": ("activation_absmax/logits", "activation_rms/logits"),
}
"""What is read at or near the sites of a finding, by how these begin."""
MOST_RANGES = 3
TOLD_FIT = 0.9
TOO_FAST_TO_DOUBLE = 1.0
"""Steps, within which a growth is told as a factor a step."""


def ending(autopsy: Autopsy) -> str:
    """How the run ended."""
    if autopsy.outcome is Outcome.NONFINITE:
        return f"nonfinite at step {autopsy.step:,}: {autopsy.what}."
    return f"{autopsy.outcome} at step {autopsy.step:,}: the loss was finite, but had left its course for good."


def first_value(autopsy: Autopsy) -> list[str]:
    """Where the first non-finite value arose and how, from what, and which values it took; or why that is unknown."""
    finding = autopsy.finding
    if finding is not None:
        return [said for said in (_where(finding), _inputs(finding), _elements(finding)) if said]
    if autopsy.outcome is not Outcome.NONFINITE:
        return []
    if autopsy.replayed is None:
        return ["The step was not replayed, so the first non-finite value is not known."]
    return [f"Replayed {autopsy.replayed}, the step stayed finite: the first non-finite value is not known."]


def story_before(autopsy: Autopsy) -> list[str]:
    """What grew first, what then grew where the first non-finite value arose, what crossed a threshold first."""
    story = autopsy.story
    growths = [*story.growths[:1], *_where_it_died(autopsy.finding, story.growths[1:])]
    crossings = [crossing for crossing in story.crossings if crossing.step > 1]
    signs = sorted([growth.began_at for growth in story.growths] + [crossing.step for crossing in crossings])
    has_first = signs[:1] != signs[1:2] and bool(growths) and growths[0].began_at == signs[0]
    told = [
        (growth.began_at, growth_sentence(growth, is_first=has_first and index == 0))
        for index, growth in enumerate(growths)
    ]
    told += [(crossing.step, crossing_sentence(crossing, story)) for crossing in crossings[:1]]
    return [sentence for _, sentence in sorted(told, key=lambda pair: pair[0])] or [no_growth(story)]


def _where_it_died(finding: FirstNonfinite | None, later: Sequence[Growth]) -> list[Growth]:
    """The growth, at most one, of the statistic of the layer and the place that a finding names."""
    if finding is None:
        return []
    statistics = next((named for site, named in STATISTICS_AT.items() if finding.site.startswith(site)), ())
    return (
        [
            growth
            for growth in later
            if growth.tag.startswith(statistics) and statistic_of(growth.tag).layer == finding.layer
        ][:1]
        if statistics
        else []
    )


def no_growth(story: Story) -> str:
    """Where nothing was seen to grow."""
    if story.end_step == 1:
        return "It was the first step: nothing came before it."
    return "No statistic that was read had left its course before."


def growth_sentence(growth: Growth, *, is_first: bool) -> str:
    """Which statistic, from when, from what to what, how fast, and where that leads."""
    name = str(statistic_of(growth.tag))
    falls = growth.last < growth.baseline
    verb = "fall" if falls else "grow"
    lead = f"First to {verb} was {name}" if is_first else f"{_capital(name)} {'fell' if falls else 'grew'}"
    if growth.began_at == growth.last_step:
        sizes = f"from {number_in_words(growth.baseline)} to {number_in_words(growth.last)}"
        return f"{lead}, all at once at step {growth.began_at:,}, {sizes}."
    pace = pace_in_words(growth)
    return (
        f"{lead}, from step {growth.began_at:,} on: {number_in_words(growth.baseline)} to "
        f"{number_in_words(growth.last)} at step {growth.last_step:,}{f', {pace}' if pace else ''}"
        f"{_crossing_of_fit(growth)}."
    )


def pace_in_words(growth: Growth) -> str:
    """The time of doubling, or of halving for what falls; a factor a step where that is shorter than a step.

    Nothing of a fit that leaves much of the growth out.
    """
    fit = growth.fit
    if fit is None or fit.r_squared < TOLD_FIT:
        return ""
    falls = growth.last < growth.baseline
    if fit.doubling_steps < TOO_FAST_TO_DOUBLE:
        return f"{number_in_words(math.exp(fit.rate))} times {'smaller' if falls else 'larger'} every step"
    return f"{'halving' if falls else 'doubling'} every {number_in_words(fit.doubling_steps)} steps"


def crossing_sentence(crossing: Crossing, story: Story) -> str:
    """Which statistic crossed what, when, and how long before the loss showed it."""
    name = str(statistic_of(crossing.tag))
    return (
        f"{_capital(name)} crossed {number_in_words(crossing.threshold)} ({crossing.meaning}) at step "
        f"{crossing.step:,}, {lead_in_words(crossing, story)}."
    )


def lead_in_words(crossing: Crossing, story: Story) -> str:
    """How many steps before the loss showed it, or before the end where it never did."""
    shows, told = story.end_step, "the end"
    if story.loss_shows_at is not None:
        shows, told = story.loss_shows_at, "the loss showed it"
    ahead = shows - crossing.step
    if ahead == 0:
        return "the last one" if crossing.step == story.end_step else "when the loss showed it too"
    return f"{abs(ahead):,} step{'s' if abs(ahead) > 1 else ''} {'before' if ahead > 0 else 'after'} {told}"


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _crossing_of_fit(growth: Growth) -> str:
    if growth.limit is None or growth.crosses_at is None or not pace_in_words(growth):
        return ""
    return f", a pace that reaches {number_in_words(growth.limit)} at step {growth.crosses_at:,.0f}"


def _where(finding: FirstNonfinite) -> str:
    place = in_layer(place_in_words(finding.site), finding.layer)
    if finding.kind == "bad_input":
        return _bad_input(finding, place)
    operation = operation_in_words(finding)
    if finding.phase == "optimizer":
        return _in_update(finding, place)
    preposition = "on the way back through" if finding.phase == "backward" else "in"
    return (
        f"The first non-finite value arose in {PASSES[finding.phase]}: {operation} {preposition} {place} "
        f"{_accident(finding)}."
    )


def _bad_input(finding: FirstNonfinite, place: str) -> str:
    if finding.phase == "data":
        return f"The data were wrong before the step began: {place} hold ids outside the vocabulary."
    if finding.phase == "optimizer":
        return f"What the optimizer keeps for {place} was not finite before the step began."
    return f"Values were not finite before the step began: {place}."


def _in_update(finding: FirstNonfinite, place: str) -> str:
    if finding.kind != "update_overflow":
        return (
            "All gradients were finite, but the sum of their squares, for their norm, overflowed "
            f"{_limit(finding)}; the largest is that of {place}."
        )
    tensor = "the new value" if finding.output.name == "weight" else TENSORS.get(finding.output.name, "the state")
    return (
        f"The first non-finite value arose in the optimizer's step: {tensor} of {place} overflowed {_limit(finding)}."
    )


def _accident(finding: FirstNonfinite) -> str:
    """What went wrong, as the rest of a sentence whose subject is the operation."""
    overflowed = finding.limit_dtype is not None
    match finding.kind:
        case "exp_overflow" if "sum" not in finding.operation:
            largest = number_in_words(math.log(_largest(finding.limit_dtype or "float32")))
            return f"overflowed {finding.limit_dtype or 'float32'}, as exp(x) does above x = {largest}"
        case "inf_minus_inf" if overflowed:
            return f"overflowed {_limit(finding)} in both directions, and inf - inf is NaN"
        case "inf_minus_inf" if finding.site.endswith("softmax"):
            return "had a row without a finite logit"
        case "inf_minus_inf":
            return "met infinities of both signs, and inf - inf is NaN"
        case "zero_over_zero" if finding.site.endswith("attend.softmax"):
            return "divided by zero: all exponentials of a row had become zero, as exp(x) does below x = -104"
        case "zero_over_zero":
            return "divided by zero"
    return f"overflowed {_limit(finding)}" if overflowed else "gave a value that is not finite"


def _limit(finding: FirstNonfinite) -> str:
    dtype = finding.limit_dtype or "float32"
    return f"{dtype} (largest number {number_in_words(_largest(dtype))})"


def _largest(dtype: str) -> float:
    return torch.finfo(getattr(torch, dtype)).max


def _inputs(finding: FirstNonfinite) -> str:
    """The ranges that the operation's inputs had; of many a few, those with a name and the largest."""
    if finding.kind == "bad_input":
        return _range_of_bad(finding)
    with_range = [contents for contents in finding.inputs if _range(contents)]
    shown = sorted(with_range, key=_prominence, reverse=True)[:MOST_RANGES]
    ranges = ", and ".join(_range(contents) for contents in with_range if contents in shown)
    if len(with_range) > MOST_RANGES:
        return f"Of its {len(with_range)} inputs {MOST_RANGES} ran {ranges}."
    return f"Its input{'s' if len(shown) > 1 else ''} ran {ranges}." if shown else ""


def _prominence(contents: Contents) -> tuple[bool, float]:
    return contents_name(contents) is not None, max(abs(contents.smallest or 0.0), abs(contents.largest or 0.0))


def _range(contents: Contents) -> str:
    if contents.smallest is None or contents.largest is None:
        return ""
    name = contents_name(contents)
    bounds = f"from {number_in_words(contents.smallest)} to {number_in_words(contents.largest)}"
    return bounds if name is None else f"{bounds} ({name})"


def contents_name(contents: Contents) -> str | None:
    """What a tensor is, None where it has but the name of an argument that says nothing."""
    named = TENSORS.get(contents.name, ARGUMENTS.get(contents.name))
    if named is not None:
        return named
    return contents.name if "." in contents.name or " " in contents.name else None


def _range_of_bad(finding: FirstNonfinite) -> str:
    if finding.phase != "data" or finding.output.smallest is None or finding.output.largest is None:
        return ""
    return f"The ids run from {finding.output.smallest:.0f} to {finding.output.largest:.0f}."


def _elements(finding: FirstNonfinite) -> str:
    """How many values, and on which axes where known."""
    number, total = finding.elements.number, math.prod(finding.output.shape)
    if total == 1:
        return ""
    if number == total:
        return f"All {total:,} values are affected."
    axes = axes_in_words(finding.elements)
    verb = "are" if number > 1 else "is"
    return f"{number:,} of {total:,} values {verb} affected{f': {axes}' if axes else ''}."


def axes_in_words(elements: Elements) -> str:
    """Heads, sequences and tokens, where known."""
    named = {"heads": elements.heads, "sequences": elements.sequences, "tokens": elements.tokens}
    return ", ".join(numbers_in_words(name, numbers) for name, numbers in named.items() if numbers)
