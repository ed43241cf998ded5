"""The command line, run in this process and in a folder of its own."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from normlab.app.cli import main
from normlab.core.run_folder import RunFolder


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    exit_code: int
    out: str
    err: str


Command = Callable[..., Said]
SMALL = ("model=micro", "tokenizer=bytes", "trainer.steps=4", "trainer.val_tokens=256", "schedule.warmup_steps=1")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs ``python src/run.py`` with the given arguments in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        try:
            exit_code = main()
        except SystemExit as stop:
            exit_code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Said(exit_code, captured.out, captured.err)

    return run


@pytest.fixture
def text_data(tmp_path: Path) -> tuple[str, ...]:
    """Overrides that name small text files."""
    (tmp_path / "a.txt").write_text("The cat sat on the mat. " * 40 + "<|endoftext|>" + "A dog ran by. " * 40)
    (tmp_path / "c.txt").write_text("The dog sat on the cat. " * 40)
    return ("data=text", "data.train=[a.txt]", "data.valid=c.txt")


def only_run(folder: Path) -> RunFolder:
    """The one run folder below ``folder``."""
    (summary,) = folder.glob("**/summary.json")
    return RunFolder(summary.parent)
