"""Fixtures that several test folders share."""

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings

# Read as torch loads, here and in every process that a test starts: one thread each, for tiny products of which several
# processes are under way, maybe on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from tests.parts import model_with

from normlab.app.cli import main
from normlab.model.feed_forward import SwiGLU
from normlab.model.language_model import LanguageModel

settings.register_profile("untimed", deadline=None)  # the processor may be busy with other tests
settings.load_profile("untimed")


@pytest.fixture(autouse=True)
def denormal_numbers() -> Iterator[None]:
    """A run flushes them to zero for as long as its process lives; tests, which share one, are about all numbers."""
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def micro() -> LanguageModel:
    """A model of two layers with the weights of seed 0; ``copy.deepcopy`` gives a second one."""
    return model_with(vocab_size=64, width=32, context_length=32, ffn=partial(SwiGLU, hidden_width=64))


@dataclass(frozen=True)
class Said:
    """What a command came to."""

    exit_code: int
    out: str
    err: str


Command = Callable[..., Said]


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
