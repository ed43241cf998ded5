"""Every cause of death, planted in a known place of a real run: its autopsy names the place and the kind.

Micro models of two layers with two heads of 16 channels; batches of 8 sequences of 32 tokens. The plant comes after
step 2, so that step 3 is the fatal one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tests.app.planted import AGAIN, QUIET, RUN, SPACE, autopsy_of, planted

from normlab.app.bundle import BATCH, INPUTS
from normlab.core.run_folder import RunFolder

"""Torch's own, where it loads its compiler."""
ALL_SEQUENCES, ALL_TOKENS = list(range(8)), list(range(32))


@dataclass(frozen=True, kw_only=True)
class Planted:
    """Where the first non-finite value must be found, of which kind, and what the words must say."""

    phase: str = "forward"
    layer: int | None
    site: str
    operation: str
    kind: str
    limit: str | None
    """A type of numbers, or "precision" for the one in which the run multiplies."""
    words: str
    elements: dict[str, Any]


CAUSES = {
    "large_logits": Planted(
        layer=1, site="attention.attend.softmax", operation="aten.exp", kind="exp_overflow", limit="float32",
        words="the exponential in the attention softmax of layer 1 overflowed float32",
        elements={"heads": [1], "sequences": ALL_SEQUENCES},
    ),
    "stream_of_both_signs": Planted(
        layer=1, site="attention_path.input_norm", operation="aten.mean", kind="inf_minus_inf", limit="float32",
        words="the mean in the norm before attention of layer 1 overflowed float32 (largest number 3.4e38) in both "
        "directions, and inf - inf is NaN",
        elements={"number": 8 * 32, "sequences": ALL_SEQUENCES, "tokens": ALL_TOKENS, "heads": None},
    ),
    "zero_row": Planted(
        layer=0, site="attention_path.input_norm", operation="aten.rsqrt", kind="zero_over_zero", limit=None,
        words="the inverse square root in the norm before attention of layer 0 divided by zero",
        elements={"heads": None},
    ),
    "large_product": Planted(
        layer=1, site="ffn.down", operation="aten.mm", kind="product_overflow", limit="precision",
        words="the matrix product in the feed-forward's last projection of layer 1 overflowed",
        elements={"sequences": ALL_SEQUENCES, "tokens": ALL_TOKENS},
    ),
    "large_product_of_queries_and_keys": Planted(
        layer=1, site="attention.attend", operation="aten.bmm", kind="product_overflow", limit="precision",
        words="the product of queries and keys in attention of layer 1 overflowed",
        elements={"heads": [0], "sequences": ALL_SEQUENCES, "tokens": ALL_TOKENS},
    ),
    "large_derivative": Planted(
        phase="backward", layer=0, site="ffn", operation="aten.mul", kind="product_overflow", limit="precision",
        words="the product with the gate on the way back through the feed-forward of layer 0 overflowed",
        elements={"sequences": ALL_SEQUENCES, "heads": None},
    ),
    "large_gradient": Planted(
        phase="optimizer", layer=0, site="ffn.up.weight", operation="norm of the gradients", kind="product_overflow",
        limit="float32",
        words="for their norm, overflowed float32 (largest number 3.4e38); the largest is that of the weight of the "
        "feed-forward's first projection of layer 0",
        elements={"number": 1},
    ),
    "large_moment": Planted(
        phase="optimizer", layer=1, site="ffn.up.weight", operation="AdamW.step", kind="update_overflow",
        limit="float32",
        words="the new value of the weight of the feed-forward's first projection of layer 1 overflowed float32",
        elements={"tokens": None},
    ),
    "large_logits_of_the_head": Planted(
        layer=None, site="loss", operation="aten.pow", kind="loss_overflow", limit="float32",
        words="the power in the loss overflowed float32",
        elements={"number": 8 * 32, "sequences": ALL_SEQUENCES, "tokens": ALL_TOKENS},
    ),
    "moment_not_a_number": Planted(
        phase="optimizer", layer=1, site="ffn.up.weight", operation="AdamW.step", kind="bad_input", limit=None,
        words="What the optimizer keeps for the weight of the feed-forward's first projection of layer 1 was not "
        "finite before the step began",
        elements={"number": 1, "indices": [[3, 4]]},
    ),
    "weight_not_a_number": Planted(
        layer=1, site="ffn.up.weight", operation="weight before the step", kind="bad_input", limit=None,
        words="Values were not finite before the step began: the weight of the feed-forward's first projection of "
        "layer 1",
        elements={"number": 1, "indices": [[3, 4]]},
    ),
}  # fmt: skip
QUICK = {
    ("float32", False): CAUSES.keys(),
    ("bfloat16", True): {"large_product"},
}
"""What adds most: all of it once, then what differs by the precision, and by the compiler, which is slow."""


def every_cause() -> Iterator[Any]:
    """In both precisions, eager and compiled; most of it slow."""
    for cause in CAUSES:
        for precision, is_compiled in product(("float32", "bfloat16"), (False, True)):
            is_quick = cause in QUICK.get((precision, is_compiled), ())
            yield pytest.param(cause, precision, is_compiled, marks=() if is_quick else pytest.mark.slow)


@pytest.mark.parametrize(("cause", "precision", "is_compiled"), list(every_cause()))
def test_the_planted_place_and_kind_are_named(
    cause: str, precision: str, is_compiled: bool, command, text_data, tmp_path: Path
) -> None:
    expected = CAUSES[cause]
    died_at = 1 if cause == "weight_not_a_number" else 3
    settings = (f"trainer.precision={precision}", f"trainer.compile={str(is_compiled).lower()}")

    said = command(*planted(cause, after_step=died_at - 1), *text_data, *settings, QUIET, RUN)

    assert said.exit_code == 0, said.err
    run = RunFolder(tmp_path / "run")
    autopsy = autopsy_of(run)
    finding = autopsy["finding"]
    assert (autopsy["outcome"], autopsy["step"]) == ("nonfinite", died_at)
    assert {name: finding[name] for name in ("phase", "layer", "site", "operation", "kind")} == {
        name: getattr(expected, name) for name in ("phase", "layer", "site", "operation", "kind")
    }
    assert finding["limit_dtype"] == (precision if expected.limit == "precision" else expected.limit)
    assert {name: finding["elements"][name] for name in expected.elements} == expected.elements
    if cause == "zero_row":
        is_space_BT = load_file(run.bundle / BATCH)[INPUTS] == SPACE
        assert finding["elements"]["number"] == is_space_BT.sum()
        assert finding["elements"]["tokens"] == is_space_BT.any(0).nonzero().flatten().tolist()

    assert expected.words in in_one_line(said.out)
    assert expected.words in run.autopsy_markdown.read_text()
    check_recomputed_losses(run, died_at, 0.02 if is_compiled else 0.0)
    assert ("without torch.compile" in autopsy["replayed"]) == is_compiled

    again = command(*AGAIN)
    assert again.exit_code == 0, again.err
    assert autopsy_of(run)["finding"] == finding
    short_form = again.out[: again.out.index("written to: run")]
    assert short_form in said.out, "the same ten lines"
    assert expected.words in run.autopsy_markdown.read_text()


@pytest.mark.slow
def test_what_kills_compiled_code_alone_is_told_as_such(command, text_data, tmp_path: Path) -> None:
    """Compiled code adds in another order, in which partial sums overflow that otherwise cancel."""
    run = RunFolder(tmp_path / "compiled")
    for name in ("eager", "compiled"):
        how = (f"trainer.compile={str(name == 'compiled').lower()}", QUIET, f"hydra.run.dir={name}")
        said = command(*planted("stream_that_adds_up"), *text_data, *how)
        assert said.exit_code == 0, said.err
    assert RunFolder(tmp_path / "eager").read_summary()["outcome"] == "completed"
    if run.read_summary()["outcome"] == "completed":
        pytest.skip("on this processor the compiler adds in an order that lives")
    assert autopsy_of(run)["finding"] is None
    told = "without torch.compile, the step stayed finite: the first non-finite value is not known"
    assert told in in_one_line(said.out)


def in_one_line(text: str) -> str:
    return " ".join(text.split())


def check_recomputed_losses(run: RunFolder, died_at: int, tolerance: float) -> None:
    """Those of the steps before the last are the run's; to the bit where both were computed alike."""
    taken = {record["step"]: record["train_loss"] for record in run.read_metrics()}
    again = {record["step"]: record["train_loss"] for record in run.read_recomputed_steps()}
    assert again.keys() <= taken.keys()
    for step in range(1, died_at):
        if step in again:
            assert again[step] == pytest.approx(taken[step], abs=tolerance, rel=0)
    statistics = autopsy_of(run)["statistics"]
    agreement = "agree with the run's to the bit" if tolerance == 0 else "their losses "
    assert died_at == 1 or not again.keys() - {died_at} or agreement in statistics
