"""An autopsy as text: short enough for a terminal, readable aloud, whole in the file."""

import json
import re
import shlex
from dataclasses import replace
from typing import Any

import pytest
from tests.autopsy.deaths import EXPONENTIAL, LARGE_LOGIT, LOGITS_GROW, finding, growth_of, setting, story

from normlab.autopsy.advice import advise
from normlab.autopsy.autopsy import Autopsy
from normlab.autopsy.finding import Contents, Elements, FirstNonfinite
from normlab.autopsy.place_words import place_in_words
from normlab.autopsy.report import markdown_report
from normlab.autopsy.sentences import first_value, growth_sentence, lead_in_words
from normlab.autopsy.statistic_words import statistic_of
from normlab.autopsy.story import Story
from normlab.autopsy.terminal import NUM_COLUMNS, NUM_LINES, terminal_text
from normlab.autopsy.words import number_in_words, numbers_in_words
from normlab.core.records import Outcome, encode_json

OWN = ("model/norm=none", "attention/softmax=naive", "optimizer.lr=3e-2")


def autopsy_of(
    found: FirstNonfinite | None = EXPONENTIAL,
    told: Story | None = None,
    own: tuple[str, ...] = OWN,
    outcome: Outcome = Outcome.NONFINITE,
    replayed: str | None = "on the CPU, from the weights and moments before it",
) -> Autopsy:
    told = told or story()
    return Autopsy(
        outcome=outcome,
        step=told.end_step,
        what="the gradient norm is nan",
        overrides=own,
        finding=found,
        story=told,
        advice=advise(found, told, setting(*own)),
        replayed=replayed,
        statistics="recomputed from step 20; losses agree to the bit",
    )


def test_the_terminal_text_tells_all_in_ten_lines() -> None:
    text = terminal_text(autopsy_of())
    assert text.splitlines() == [
        "nonfinite at step 60: the gradient norm is nan.",
        "The first non-finite value arose in the forward pass: the exponential in the attention softmax of",
        "layer 3 overflowed float32, as exp(x) does above x = 88.7. Its input ran from -141 to 137. 29 of",
        "524,288 values are affected: head 1, sequences 0 and 5, tokens 30 to 41.",
        "First to grow was the largest attention logit of layer 3, from step 40 on: 10.5 to 137 at step 60,",
        "doubling every 5.54 steps, a pace that reaches 88.7 at step 57. The largest attention logit of layer",
        "3 crossed 30 (so large a logit rules) at step 48, 12 steps before the end.",
        "To try: attention/softmax=stable removes the overflow, not the growth of the logits:",
        "  python src/run.py model/norm=none attention/softmax=stable optimizer.lr=3e-2",
        "or attention/clamp=hard, attention/clamp=soft, … (in full: autopsy.md)",
    ]


LONG = tuple(f"data.train=[{'a' * 40}{index}.txt,my file.txt]" for index in range(6))
NAMES = [f"layers.2.attention.a_long_name_{letter}.weight" for letter in "abc"]
PRODUCT = finding(
    phase="backward", site="attention.attend", operation="aten.bmm", kind="product_overflow",
    inputs=tuple(Contents(name, "float32", (4, 4), -3e30, 2e31, 0) for name in NAMES),
)  # fmt: skip


@pytest.mark.parametrize("own", [OWN, (*OWN, *LONG[:1]), (*OWN, *LONG)], ids=["short", "two lines", "too long"])
@pytest.mark.parametrize("found", [None, EXPONENTIAL, PRODUCT, finding(phase="data", site="inputs", kind="bad_input")])
@pytest.mark.parametrize("outcome", [Outcome.NONFINITE, Outcome.DIVERGED])
def test_no_more_than_ten_lines_of_100_columns(
    own: tuple[str, ...], found: FirstNonfinite | None, outcome: Outcome
) -> None:
    crossing = replace(LARGE_LOGIT, meaning="a long meaning " * 8)
    told = story(growths=(growth_of("activation_absmax/ffn_hidden/layer_3"), LOGITS_GROW), crossings=(crossing,))
    lines = terminal_text(autopsy_of(found, told, own, outcome)).splitlines()
    assert len(lines) <= NUM_LINES
    assert max(map(len, lines)) <= NUM_COLUMNS
    assert lines[0].startswith(str(outcome)) and "autopsy.md" in lines[-1], "neither end is cut off"


def test_a_command_on_several_lines_is_the_same_command() -> None:
    autopsy = autopsy_of(own=(*OWN, "data.train=[a.txt,my  file.txt]", "trainer.steps=20000", "logger=none"))
    command = autopsy.advice.suggestions[0].command
    lines = terminal_text(autopsy).splitlines()
    typed = [line for line in lines if line.startswith("  ")]
    assert len(typed) == 2
    assert shlex.split("\n".join(typed).replace("\\\n", "")) == shlex.split(command)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"operation": "aten.sum"}, "the sum of exponentials in the attention softmax of layer 3 overflowed float32 ("),
        (
            {"site": "ffn.down", "operation": "aten.mm", "kind": "product_overflow", "limit_dtype": "bfloat16"},
            "the matrix product in the feed-forward's last projection of layer 3 overflowed bfloat16 (largest number "
            "3.39e38).",
        ),
        (
            {"site": "ffn", "operation": "aten.mul", "kind": "product_overflow"},
            "the product with the gate in the feed-forward of layer 3 overflowed float32 (largest number 3.4e38).",
        ),
        (
            {"phase": "backward", "site": "ffn_path.rule", "operation": "aten.add", "kind": "sum_overflow"},
            "in the backward pass: the sum of stream and update on the way back through the residual path of the "
            "feed-forward of layer 3 overflowed",
        ),
        (
            {"site": "attention_path.input_norm", "operation": "aten.pow", "kind": "product_overflow"},
            "the power in the norm before attention of layer 3 overflowed",
        ),
        (
            {"layer": None, "site": "final_norm", "operation": "aten.rsqrt", "kind": "zero_over_zero",
             "limit_dtype": None},
            "the inverse square root in the final norm divided by zero.",
        ),
        (
            {"operation": "aten.div", "kind": "zero_over_zero", "limit_dtype": None},
            "the quotient in the attention softmax of layer 3 divided by zero: all exponentials of a row had become "
            "zero, as exp(x) does below x = -104.",
        ),
        (
            {"operation": "aten._softmax", "kind": "inf_minus_inf", "limit_dtype": None},
            "the softmax in the attention softmax of layer 3 had a row without a finite logit.",
        ),
        (
            {"site": "head", "layer": None, "operation": "aten.mm", "kind": "inf_minus_inf", "limit_dtype": None},
            "the matrix product in the head met infinities of both signs, and inf - inf is NaN.",
        ),
        (
            {"phase": "optimizer", "site": "ffn.down.weight", "operation": "AdamW.step", "kind": "update_overflow",
             "output": Contents("exp_avg_sq", "float32", (4, 4), 0.0, 1.0, 3)},
            "in the optimizer's step: the second moment of the weight of the feed-forward's last projection of layer 3 "
            "overflowed float32",
        ),
        (
            {"phase": "optimizer", "site": "head.weight", "layer": None, "operation": "norm of the gradients",
             "kind": "product_overflow"},
            "the sum of their squares, for their norm, overflowed float32 (largest number 3.4e38); the largest is that "
            "of the weight of the head.",
        ),
        ({"phase": "data", "site": "targets", "layer": None, "kind": "bad_input"}, "the target tokens hold ids"),
        ({"operation": "aten.frobnicate_", "kind": "other", "limit_dtype": None}, "the operation frobnicate in the"),
    ],
)  # fmt: skip
def test_every_kind_in_words(changes: dict[str, Any], said: str) -> None:
    sentence = " ".join(first_value(autopsy_of(finding(**changes))))
    assert said in sentence
    assert "aten" not in sentence


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ([(8, 7, 4), (8, 4, 7), (8, 7, 7)], "the product of queries and keys"),
        ([(8, 7, 7), (8, 7, 4), (8, 7, 4)], "the product of attention weights and values"),
        ([(8, 7, 7), (8, 7, 7), (8, 7, 7)], "the matrix product"),
    ],
)
def test_products_in_attention_are_told_by_their_shapes(shapes: list[tuple[int, ...]], said: str) -> None:
    *inputs, output = (Contents("self", "float32", shape, -1.0, 1.0, 0) for shape in shapes)
    changes = {"site": "attention.attend", "operation": "aten.bmm", "kind": "product_overflow"}
    autopsy = autopsy_of(finding(**changes, inputs=tuple(inputs), output=output))
    assert f"{said} in attention of layer 3 overflowed" in first_value(autopsy)[0]


def test_elements_are_counted_and_placed() -> None:
    assert first_value(autopsy_of())[2] == (
        "29 of 524,288 values are affected: head 1, sequences 0 and 5, tokens 30 to 41."
    )
    every = finding(
        output=Contents("output", "float32", (2, 3), None, None, 6), elements=Elements(6, ((0, 0),), (0, 1))
    )
    assert first_value(autopsy_of(every))[2] == "All 6 values are affected."
    single = finding(output=Contents("output", "float32", (), None, None, 1), elements=Elements(1, ((),)))
    assert len(first_value(autopsy_of(single))) == 2, "a number has no places"


def test_of_many_inputs_those_with_a_name_and_the_largest_are_told() -> None:
    sizes = {"weight": 0.5, "gradient": 1e-3, "step": 7.0, "exp_avg": 2e38, "exp_avg_sq": 1e-6}
    update = finding(
        phase="optimizer", site="head.weight", layer=None, operation="AdamW.step", kind="update_overflow",
        inputs=tuple(Contents(name, "float32", (4, 4), 0.0, size, 0) for name, size in sizes.items()),
    )  # fmt: skip
    assert first_value(autopsy_of(update))[1] == (
        "Of its 5 inputs 3 ran from 0 to 0.5 (the weight), and from 0 to 0.001 (the gradient), and from 0 to 2e38 "
        "(the first moment)."
    )
    fused = finding(inputs=tuple(Contents(name, "float32", (4,), -1.0, 1.0, 0) for name in ("query", "grad", "key")))
    assert "(the queries), and from -1 to 1, and from -1 to 1 (the keys)" in first_value(autopsy_of(fused))[1]


def test_what_is_said_where_the_replay_found_nothing() -> None:
    assert "stayed finite" in terminal_text(autopsy_of(None))
    assert "was not replayed" in terminal_text(autopsy_of(None, replayed=None))
    diverged = terminal_text(autopsy_of(None, outcome=Outcome.DIVERGED))
    assert diverged.startswith("diverged at step 60: the loss was finite")
    assert "non-finite value" not in diverged


def test_the_story_names_the_place_of_death_besides_what_grew_first() -> None:
    first = growth_of("activation_absmax/residual/layer_1", began_at=30)
    elsewhere = growth_of("attention_logit_max/layer_0")
    text = " ".join(terminal_text(autopsy_of(told=story(growths=(first, elsewhere, LOGITS_GROW)))).split())
    assert "First to grow was the largest magnitude in the residual stream of layer 1, from step 30 on" in text
    assert "The largest attention logit of layer 3 grew, from step 40 on" in text
    assert "layer 0" not in text


def test_what_falls_fast_or_at_once() -> None:
    assert LOGITS_GROW.fit is not None
    falling = growth_of("attention_entropy/layer_1", baseline=3.0, last=0.1, limit=None, crosses_at=None)
    assert growth_sentence(falling, is_first=True) == (
        "First to fall was the attention entropy of layer 1, from step 40 on: 3 to 0.1 at step 60, halving every "
        "5.54 steps."
    )
    fast = replace(LOGITS_GROW, fit=replace(LOGITS_GROW.fit, rate=2.0, doubling_steps=0.35), crosses_at=None)
    assert growth_sentence(fast, is_first=False).endswith(", 7.39 times larger every step.")
    at_once = replace(LOGITS_GROW, began_at=60, fit=None, crosses_at=None)
    assert growth_sentence(at_once, is_first=False).endswith(" grew, all at once at step 60, from 10.5 to 137.")


def test_nothing_is_made_up_where_nothing_grew() -> None:
    quiet = story(growths=(), crossings=())
    assert "No statistic that was read had left its course" in terminal_text(autopsy_of(told=quiet))
    from_the_start = story(growths=(), crossings=(replace(LARGE_LOGIT, step=1),))
    assert "crossed" not in terminal_text(autopsy_of(told=from_the_start)), "it came before any update"
    assert "It was the first step" in terminal_text(autopsy_of(told=story(end_step=1, growths=(), crossings=())))


@pytest.mark.parametrize(
    ("step", "shows", "said"),
    [
        (48, None, "12 steps before the end"), (59, None, "1 step before the end"), (60, None, "the last one"),
        (48, 50, "2 steps before the loss showed it"), (50, 50, "when the loss showed it too"),
        (52, 50, "2 steps after the loss showed it"),
    ],
)  # fmt: skip
def test_how_early_a_threshold_was_crossed(step: int, shows: int | None, said: str) -> None:
    assert lead_in_words(replace(LARGE_LOGIT, step=step), story(loss_shows_at=shows)) == said


def test_the_markdown_report_is_whole() -> None:
    autopsy = autopsy_of(told=story(loss_shows_at=55))
    text = markdown_report(autopsy, has_figure=True)
    assert "| the largest attention logit | 3 | 40 | 10.5 | 137 (step 60) | doubling every 5.54 steps | 88.7 |" in text
    assert "| the largest attention logit | 3 | 30: so large a logit rules | 48 | 7 steps before the loss" in text
    assert "| input 1 | float32 | 8 \N{MULTIPLICATION SIGN} 4 " in text and "| -141 | 137 | 260,096 |" in text
    assert "![Growth by layer up to the end](figures/autopsy_growth.png)" in text
    assert "recomputed from step 20; losses agree to the bit" in text
    assert "`aten.exp` at `attention.attend.softmax`, layer 3, `exp_overflow`" in text
    (fenced,) = re.findall(r"```bash\n(.*?)\n```", text, re.DOTALL)
    assert fenced.splitlines() == [suggestion.command for suggestion in autopsy.advice.suggestions]
    for block in text.split("\n\n"):
        rows = [line for line in block.splitlines() if line.startswith("|")]
        assert len({row.count("|") for row in rows}) <= 1, "every row of a table has the same cells"


def test_a_long_table_is_cut() -> None:
    growths = tuple(growth_of(f"attention_logit_max/layer_{layer}") for layer in range(15))
    text = markdown_report(autopsy_of(told=story(growths=growths)), has_figure=False)
    assert "| the largest attention logit | 11 |" in text and "| the largest attention logit | 12 |" not in text
    assert "3 more that grew later are in autopsy.json." in text


def test_the_markdown_report_leaves_out_what_there_is_not() -> None:
    quiet = autopsy_of(None, story(growths=(), crossings=()), outcome=Outcome.DIVERGED, replayed=None)
    text = markdown_report(quiet, has_figure=False)
    assert "## The first non-finite value" not in text and "![" not in text
    assert "was not replayed" in text


def test_an_autopsy_is_valid_json() -> None:
    broken = finding(inputs=(Contents("self", "float32", (2,), None, float("inf"), 1),))
    content = json.loads(encode_json(autopsy_of(broken).as_dict()))
    assert content["outcome"] == "nonfinite"
    assert content["finding"]["kind"] == "exp_overflow"
    assert content["finding"]["inputs"][0]["largest"] == "Infinity"
    assert content["story"]["growths"][0]["fit"]["doubling_steps"] == 5.545
    assert content["advice"]["suggestions"][0]["choice"] == "attention/softmax=stable"
    assert content["overrides"] == list(OWN)


@pytest.mark.parametrize(
    ("tag", "said"),
    [
        ("train_loss", "the training loss"),
        ("grad_norm", "the gradient norm"),
        ("grad_norm/ffn_down/layer_2", "the gradient norm of ffn_down of layer 2"),
        ("activation_rms/ffn_hidden/layer_0", "the RMS of the feed-forward's hidden product of layer 0"),
        ("activation_absmax/logits", "the largest magnitude in the logits"),
        ("attention_logit_max/layer_1/head_3", "the largest attention logit of layer 1, head 3"),
        ("saturation/attention_path.input_norm/layer_1", "the share of flattened inputs of the norm before attention"),
        ("sharpness/raw", "the sharpness (raw)"),
        ("my_own/thing", "my_own thing"),
    ],
)
def test_statistics_in_words(tag: str, said: str) -> None:
    assert str(statistic_of(tag)).startswith(said)


def test_places_and_numbers_in_words() -> None:
    assert place_in_words("attention_path.rule.alpha") == "the trained scale of the residual path of attention"
    assert place_in_words("my.own.part") == "my.own.part"
    assert numbers_in_words("heads", (1,)) == "head 1"
    assert numbers_in_words("tokens", (3, 4)) == "tokens 3 and 4"
    assert numbers_in_words("tokens", (3, 4, 5)) == "tokens 3 to 5"
    assert numbers_in_words("tokens", (1, 4, 6, 9, 12)) == "tokens 1, 4, 6, 9 and 1 more"
    assert [number_in_words(value) for value in (3.4028e38, 0.12345, -7, -0.0)] == ["3.4e38", "0.123", "-7", "0"]
