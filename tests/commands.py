"""The commands in ```bash blocks of Markdown pages, and how each is made small enough for a test."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.conftest import Command

RUN = "python src/run.py"
FATAL = ["model/norm=none", "init.scale.factor=1e30", "init.scale.roles=[ffn_down]"]
STORIES = ["data.num_train_stories=200", "data.num_valid_stories=20"]
SMALL = ["model=micro", "trainer.steps=2", "trainer.val_tokens=256", *STORIES, "tokenizer.vocab_size=300"]
QUICK = ["logger=none", "telemetry=none", "tokenizer=bytes"]
"""What else spares time, where neither figures nor curves are looked at: for ``sized``."""
FOLDERS = {"outputs/<date>/<time>": "outputs/first", "multirun/<date>/<time>": "multirun/first"}
WITHOUT_TRAINING = (
    "resume=outputs", "task=generate", "task=evaluate", "task=autopsy", "task=export", "task=report", "task=watch",
    "--help", "--cfg",
)  # fmt: skip


def commands_of(page: str) -> list[str]:
    """The command lines of a page, without the comments behind them."""
    blocks = re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL)
    lines = [line.partition(" # ")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def is_run(command_line: str) -> bool:
    """Whether it is one for the project's own program."""
    return command_line.startswith(RUN)


def sized(command_line: str, further: Sequence[str] = ()) -> list[str]:
    """The arguments of a command, with what makes it small, and real folders in its placeholders.

    A training gets ``further`` ones, too.
    """
    for placeholder, folder in FOLDERS.items():
        command_line = command_line.replace(placeholder, folder)
    arguments = [_one_rate_and_seed(text) for text in shlex.split(re.sub(r"range\(\d+\)", "0", command_line))[2:]]
    if any(argument.startswith(WITHOUT_TRAINING) for argument in arguments):
        return arguments
    if "hydra/sweeper=frontier" in arguments:
        arguments += ["hydra.sweeper.per_decade=1", "hydra.sweeper.lowest=1e-3", "hydra.sweeper.highest=1e-2"]
    if any(argument.startswith("experiment=") for argument in arguments):
        arguments += ["optimizer.lr=1e-3", "attention/softmax=naive", *({"seed=0"} - set(arguments))]
    has_stories = not any(argument.startswith("data=") for argument in arguments)
    return [*arguments, *_fitting(SMALL, further, has_stories), *further]


def _fitting(sizes: Sequence[str], further: Sequence[str], has_stories: bool) -> list[str]:
    """Those that the data and the tokenizer have."""
    has_vocabulary = "tokenizer=bytes" not in further
    return [
        size
        for size in sizes
        if (has_stories or size not in STORIES) and (has_vocabulary or not size.startswith("tokenizer."))
    ]


def _one_rate_and_seed(argument: str) -> str:
    """A sweep over choices alone: of rates and seeds the first."""
    return (
        argument.partition(",")[0]
        if argument.startswith(("optimizer.lr=", "seed=")) and "(" not in argument
        else argument
    )


def first_run_of(command_line: str) -> list[str] | None:
    """The arguments of the run or sweep that the command's placeholder stands for; None where it has none."""
    if "<date>" not in command_line or "--multirun" in command_line:  # such a sweep may also begin there
        return None
    fatal = FATAL if "task=autopsy" in command_line else []
    is_sweep = FOLDERS["multirun/<date>/<time>"] in " ".join(sized(command_line))
    folder = ["--multirun", "hydra.sweep.dir=multirun/first"] if is_sweep else ["hydra.run.dir=outputs/first"]
    return [*folder, *SMALL, *fatal]


def write_texts(folder: Path) -> None:
    """The text files that commands name."""
    text = "The cat sat on the mat. " * 60
    for name in ("a.txt", "b.txt", "c.txt"):
        (folder / name).write_text(text)
    for name in ("a.jsonl", "b.jsonl"):
        (folder / name).write_text(f'{{"text": "{text}"}}\n' * 4)


def check_it_runs(command_line: str, command: "Command", folder: Path, further: Sequence[str] = ()) -> None:
    """Run it small, after what its placeholder stands for, in the folder in which ``command`` works."""
    write_texts(folder)
    first = first_run_of(command_line)
    assert first is None or command(*first).exit_code == 0
    said = command(*sized(command_line, further))
    assert said.exit_code == 0, said.err
    assert said.out
