"""Runs of several architectures and their exported folders, made once."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from normlab.app.cli import main

ARCHITECTURES = {
    "llama": [],
    "no_norm": ["model/norm=none"],
    "post_norm": ["model/placement=post", "model.tied_embedding=true"],
    "clamped": ["model/position=none", "attention/clamp=hard", "attention.clamp.limit=0.5", "tokenizer=bytes"],
    "qk_norm": ["model/norm@model.qk_norm=rmsnorm", "model/residual=rezero", "model.residual.initial=0.5"],
}
MICRO = [
    "model=micro", "trainer.steps=3", "trainer.val_tokens=64", "trainer.batch_size=2", "trainer.compile=false",
    "data=text", "data.train=a.txt", "data.valid=c.txt", "logger=none", "telemetry=none",
]  # fmt: skip


@dataclass(frozen=True)
class Exports:
    """The folder in which the runs are, each with its ``hf``; what each export has said."""

    path: Path
    said: dict[str, str]


def run(*arguments: str) -> int:
    """``python src/run.py`` with the arguments, in the present folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["run.py", *arguments])
        return main()


@pytest.fixture(scope="package")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exports]:
    path = tmp_path_factory.mktemp("exports")
    (path / "a.txt").write_text("The cat sat on the mat. " * 40 + "<|endoftext|>" + "A dog ran by. " * 40)
    (path / "c.txt").write_text("The dog sat on the cat. " * 40)
    before = Path.cwd()
    os.chdir(path)
    try:
        said = {}
        for name, overrides in ARCHITECTURES.items():
            tokenizer = [] if "tokenizer=bytes" in overrides else ["tokenizer.vocab_size=300"]
            assert run(*MICRO, *overrides, *tokenizer, f"hydra.run.dir={name}") == 0
            with pytest.MonkeyPatch.context() as patch:
                lines: list[str] = []
                patch.setattr(
                    "builtins.print", lambda *words, lines=lines, **how: lines.append(" ".join(map(str, words)))
                )
                assert run("task=export", f"checkpoint={name}") == 0
            said[name] = "\n".join(lines)
        yield Exports(path, said)
    finally:
        os.chdir(before)
