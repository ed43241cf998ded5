"""Every YAML in conf/ composes, instantiates and takes a step."""

import json
from pathlib import Path

import pytest
from tests.conf.test_pairs import ELSEWHERE

from normlab.app.options import CONFIG_FOLDER, group_descriptions

MICRO = [
    "model=micro", "trainer.steps=1", "trainer.val_tokens=64", "trainer.batch_size=2", "tokenizer=bytes",
    "data=text", "data.train=a.txt", "data.valid=c.txt", "logger=none",
]  # fmt: skip
HEAVY = ["model.width=32", "model.num_layers=2", "model.num_heads=2", "model.context_length=32"]
SPECIAL = {
    "tokenizer": ["file", "from_checkpoint"],
    "trainer": ["ddp", "fsdp"],  # several processes
    "task": ["evaluate", "generate", "tokenize", "inspect", "autopsy", "report", "watch", "export"],  # train nothing
    "data": [
        "from_checkpoint",
        "stories",
        "mix",
        "tokens",
        "tinystories",
        "owt",
        "url",
    ],  # elsewhere, or need a network
}
UNCOMPILED = ["trainer.compile=false"]
NEEDS = {("init", "fixup"): ["model/norm=none"], ("size", "gpu"): UNCOMPILED, ("trainer", "auto"): UNCOMPILED}
OPTIONS = [
    pytest.param(group, option, marks=[] if group in ELSEWHERE else pytest.mark.slow)  # those are in rows of pairs, too
    for group, options in group_descriptions().items()
    for option in options
    if option not in SPECIAL.get(group, [])
]


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_takes_a_step(group: str, option: str, command, text_data, tmp_path: Path) -> None:
    replaced = {"model": "model=", "data": "data=", "tokenizer": "tokenizer=", "logger": "logger="}.get(group, "no")
    small = [text for text in MICRO if not text.startswith(replaced)]
    if group == "model":
        small += HEAVY
    fitting = [*NEEDS.get((group, option), []), "task.sampler.max_tokens=1"]
    said = command(*small, f"{group}={option}", *fitting, "hydra.run.dir=run")
    assert said.exit_code == 0, said.err
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["outcome"] == "completed"
    assert summary["steps"] == 1


def test_the_stories_train(command) -> None:
    said = command(*MICRO[:4], "tokenizer.vocab_size=300", "data.num_train_stories=100", "data.num_valid_stories=10")
    assert said.exit_code == 0, said.err
    assert "the grammar's own entropy is 0." in said.out


@pytest.mark.parametrize("path", sorted(CONFIG_FOLDER.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_yaml_begins_with_what_it_is(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ") or path.parent.name == "help"


@pytest.mark.parametrize("option", ["yes", "no", "on", "off", "null", "true", "false"])
def test_no_option_has_a_name_that_yaml_reads_as_something_else(option: str) -> None:
    assert not list(CONFIG_FOLDER.rglob(f"{option}.yaml"))
