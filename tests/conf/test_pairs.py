"""Options of different groups go together: every pair that is not refused trains, watched closely, and is inspected."""

import json
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path

import pytest

from normlab.app.options import group_descriptions
from normlab.core.run_folder import RunFolder

Choice = tuple[str, str]
Row = dict[str, str]

MICRO = [
    "model=micro", "model.num_layers=2", "trainer.steps=2", "trainer.val_tokens=64", "trainer.batch_size=2",
    "tokenizer=bytes", "data=text", "data.train=a.txt", "data.valid=c.txt", "logger=none", "hydra.run.dir=run",
]  # fmt: skip
ELSEWHERE = {"model", "attention", "data", "tokenizer", "task", "trainer", "logger", "telemetry", "size", "experiment"}
"""Groups that choose no part of a model or its training, or many at once: in test_options and test_experiments."""
QK_NORM = "model/norm@model.qk_norm"
REFUSED = [
    {("model/placement", "deepnorm"), ("model/norm", "none")},
    *({("init", "fixup"), ("model/norm", norm)} for norm in ("rmsnorm", "layernorm", "l2", "dyt", "derf")),
    {("init", "fixup"), ("model/placement", "deepnorm")},  # needs a norm, and must have none
    *({("attention/qk_clip", "rescale"), (QK_NORM, norm)} for norm in ("rmsnorm", "layernorm", "l2")),
    {("attention/qk_clip", "rescale"), ("model/linear", "sigma_reparam")},
    {("init", "fixup"), ("model/linear", "sigma_reparam")},
    *({("init", "fixup"), ("model/residual", gate)} for gate in ("rezero", "skipinit")),
]
MEANT = {("init", "fixup"): ("model/norm", "none")}


def groups() -> dict[str, list[str]]:
    """The groups under study with their options; the norms stand at two sites."""
    found = {group: list(options) for group, options in group_descriptions().items() if group not in ELSEWHERE}
    return {**found, QK_NORM: found["model/norm"]}


def is_refused(choices: set[Choice]) -> bool:
    return any(pair <= choices for pair in REFUSED)


def covering_rows(options: dict[str, list[str]]) -> Iterator[Row]:
    """Choices of one option of every group, until every pair that is not refused stands in a row.

    Greedy: a row begins with a pair that is missing, and each further group takes the option that adds most.
    """
    names = list(options)
    missing = {
        frozenset({(one, a), (other, b)})
        for one, other in combinations(names, 2)
        for a, b in product(options[one], options[other])
        if not is_refused({(one, a), (other, b)})
    }
    while missing:
        row = dict(sorted(min(missing, key=sorted)))
        for name in names:
            if name not in row:
                row[name] = max(
                    (option for option in options[name] if not is_refused({*row.items(), (name, option)})),
                    key=lambda option: sum(frozenset({(name, option), other}) in missing for other in row.items()),
                )
        missing -= {frozenset(pair) for pair in combinations(row.items(), 2)}
        yield row


ROWS = list(covering_rows(groups()))
INSPECTED = [*range(10), *(pytest.param(number, marks=pytest.mark.slow) for number in range(10, len(ROWS)))]


def test_the_rows_cover_every_pair_that_is_not_refused() -> None:
    covered = {frozenset(pair) for row in ROWS for pair in combinations(row.items(), 2)}
    for (one, ones), (other, others) in combinations(groups().items(), 2):
        for a, b in product(ones, others):
            pair = {(one, a), (other, b)}
            assert frozenset(pair) in covered or is_refused(pair), pair


@pytest.mark.parametrize("number", range(len(ROWS)))
def test_a_row_of_options_trains_under_full_telemetry(number: int, command, text_data, tmp_path: Path) -> None:
    overrides = [f"{group}={option}" for group, option in ROWS[number].items()]
    said = command(*MICRO, *overrides, "telemetry=full", "task.sampler.max_tokens=1")
    assert said.exit_code == 0, said.err
    folder = RunFolder(tmp_path / "run")
    assert folder.read_summary()["outcome"] in ("completed", "nonfinite")
    record = next(iter(folder.read_metrics()))
    assert {"activation_rms/ffn/layer_1", "attention_logit_max/layer_0/head_1"} <= record.keys()


@pytest.mark.parametrize("number", INSPECTED)
def test_a_row_of_options_is_inspected(number: int, command, text_data, tmp_path: Path) -> None:
    overrides = [f"{group}={option}" for group, option in ROWS[number].items()]
    said = command(*MICRO, *overrides, "task=inspect", "hydra.run.dir=inspected")
    assert said.exit_code == 0, said.err
    assert "what is likely to fail:" in said.out
    assert json.loads((tmp_path / "inspected" / "inspection.json").read_text())["flops"] > 0


@pytest.mark.parametrize("pair", REFUSED, ids=lambda pair: "-".join(option for _, option in sorted(pair)))
def test_a_refused_pair_is_refused_with_what_to_type(pair: set[Choice], command, text_data, tmp_path: Path) -> None:
    overrides = dict([*(MEANT[choice] for choice in pair if choice in MEANT), *pair])
    said = command(*MICRO, *(f"{group}={option}" for group, option in overrides.items()))
    assert said.exit_code == 2
    assert "Type " in said.err
    assert not (tmp_path / "run").exists()
