"""An autopsy in full, as Markdown: for autopsy.md and for TensorBoard's page of texts."""

from collections.abc import Iterator, Sequence

from normlab.autopsy.autopsy import Autopsy
from normlab.autopsy.finding import Contents, FirstNonfinite
from normlab.autopsy.sentences import (
    axes_in_words,
    contents_name,
    ending,
    first_value,
    lead_in_words,
    no_growth,
    pace_in_words,
    story_before,
)
from normlab.autopsy.statistic_words import statistic_of
from normlab.autopsy.story import Growth, Story
from normlab.autopsy.words import number_in_words

FIGURE = "figures/autopsy_growth.png"
NOTHING = ""
MOST_ROWS = 12


def markdown_report(autopsy: Autopsy, *, has_figure: bool) -> str:
    """Sections: what happened, the first non-finite value, the story, what to try, how this was found."""
    sections = [
        f"# Autopsy: {ending(autopsy)}",
        " ".join([*first_value(autopsy), *story_before(autopsy)]),
        *([] if autopsy.finding is None else _value_section(autopsy.finding)),
        *_story_section(autopsy.story),
        *([f"![Growth by layer up to the end]({FIGURE})"] if has_figure else []),
        *_advice_section(autopsy),
        *_method_section(autopsy),
    ]
    return "\n\n".join(sections) + "\n"


def _value_section(finding: FirstNonfinite) -> Iterator[str]:
    yield "## The first non-finite value"
    rows = [
        [_label(finding, index), contents.dtype, _shape(contents), *_bounds(contents), f"{contents.num_nonfinite:,}"]
        for index, contents in enumerate([*finding.inputs, finding.output])
    ]
    yield _table(["tensor", "type", "shape", "smallest finite", "largest finite", "not finite"], rows)
    indices = ", ".join(str(list(index)) for index in finding.elements.indices)
    axes = axes_in_words(finding.elements)
    where = f" They lie in {axes}." if axes else ""
    more = ", …" if finding.elements.number > len(finding.elements.indices) else ""
    yield f"Values that arose here: {finding.elements.number:,}.{where} Indices: {indices or 'none'}{more}."
    layer = "no layer" if finding.layer is None else f"layer {finding.layer}"
    yield f"As the program names it: `{finding.operation}` at `{finding.site}`, {layer}, `{finding.kind}`."


def _story_section(story: Story) -> Iterator[str]:
    yield "## What came before"
    if not story.growths and not story.crossings:
        yield no_growth(story)
    if story.growths:
        header = ["statistic", "layer", "from step", "at first", "last", "pace", "limit", "would cross"]
        yield _table(header, [_growth_row(growth) for growth in story.growths[:MOST_ROWS]])
        if len(story.growths) > MOST_ROWS:
            yield f"{len(story.growths) - MOST_ROWS:,} more that grew later are in autopsy.json."
    if story.crossings:
        rows = []
        for crossing in story.crossings:
            told = statistic_of(crossing.tag)
            threshold = f"{number_in_words(crossing.threshold)}: {crossing.meaning}"
            rows.append(
                [told.name, _layer(told.layer), threshold, f"{crossing.step:,}", lead_in_words(crossing, story)]
            )
        yield _table(["statistic", "layer", "threshold", "crossed at step", "that is"], rows)
    if story.loss_shows_at is not None:
        yield f"The loss left its course for good at step {story.loss_shows_at:,}."


def _growth_row(growth: Growth) -> list[str]:
    told = statistic_of(growth.tag)
    return [
        told.name,
        _layer(told.layer),
        f"{growth.began_at:,}",
        number_in_words(growth.baseline),
        f"{number_in_words(growth.last)} (step {growth.last_step:,})",
        pace_in_words(growth) or NOTHING,
        NOTHING if growth.limit is None else number_in_words(growth.limit),
        NOTHING if growth.crosses_at is None else f"step {growth.crosses_at:,.0f}",
    ]


def _advice_section(autopsy: Autopsy) -> Iterator[str]:
    yield "## What to try"
    advice = autopsy.advice
    if advice.suggestions:
        yield "Each is this run with one choice made differently; whether it helps, the run will tell."
        yield "```bash\n" + "\n".join(suggestion.command for suggestion in advice.suggestions) + "\n```"
        yield "\n".join(f"- `{suggestion.choice}` {suggestion.reason}." for suggestion in advice.suggestions)
    yield from advice.remarks
    if not advice.suggestions and not advice.remarks:
        yield "No option here is known to address it."


def _method_section(autopsy: Autopsy) -> Iterator[str]:
    yield "## How this was found"
    if autopsy.replayed is None:
        yield "The step that ended the run was not replayed."
    else:
        yield (
            f"The step was replayed ({autopsy.replayed}) with every operation of both passes and of the optimizer "
            "watched; the value above is the first that is not finite though what it was made of was, or that no "
            "input explains. Attention that ran fused is spelt out in the replay, so its numbers may differ in the "
            "last digits from those of the run."
        )
    yield f"Statistics: {autopsy.statistics}."
    yield (
        "A growth is told from readings, not from causes: what grew first is where to look first. Paces are fits of "
        "an exponential to a few steps, and what they would reach is an extrapolation."
    )


def _label(finding: FirstNonfinite, index: int) -> str:
    """A tensor's name for people; inputs that have but an argument's name are numbered."""
    if index == len(finding.inputs):
        return "output" if finding.phase in ("forward", "backward") else _name(finding.output, "output")
    return _name(finding.inputs[index], f"input {index + 1}")


def _name(contents: Contents, otherwise: str) -> str:
    name = contents_name(contents)
    return otherwise if name is None else f"`{name}`" if "." in name else name


def _shape(contents: Contents) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(f"{size:,}" for size in contents.shape) or "one number"


def _bounds(contents: Contents) -> list[str]:
    return ["none" if bound is None else number_in_words(bound) for bound in (contents.smallest, contents.largest)]


def _layer(layer: int | None) -> str:
    return NOTHING if layer is None else str(layer)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
