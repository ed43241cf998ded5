"""trainer=auto says what it chose, and a run that is resumed keeps to it, whatever the machine is by then."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from tests.app.planting import before_call

from normlab.train.fastest import CHOSEN

AUTO = ["model=micro", "trainer=auto", "trainer.compile=false", "trainer.steps=6", "trainer.val_tokens=64"]
QUIET = ["logger=none", "tokenizer=bytes"]


def precision_of(run: Path) -> str:
    return OmegaConf.load(run / "config.yaml").trainer.precision


def test_what_is_chosen_is_said_in_one_line(command, text_data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHOSEN, "bfloat16")
    said = command(*AUTO, *QUIET, *text_data, "hydra.run.dir=run")
    assert said.exit_code == 0, said.err
    (line,) = [line for line in said.err.splitlines() if "trainer=auto" in line]
    assert line.startswith("note: trainer=auto is trainer.precision=bfloat16 trainer.compile=false; matrix products")
    assert "trainer=auto" not in command(*QUIET, *text_data, "model=micro", "trainer.steps=1").err


def test_a_resumed_run_keeps_its_precision(command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setenv(CHOSEN, "bfloat16")
    with monkeypatch.context() as patch:
        before_call(patch, "normlab.train.loop.training_step", interrupt, nth=4)
        assert command(*AUTO, *QUIET, *text_data, "hydra.run.dir=run").exit_code == 130
    monkeypatch.setenv(CHOSEN, "float32")
    assert command("resume=run").exit_code == 0
    assert precision_of(tmp_path / "run") == "bfloat16"
    assert command(*AUTO, *QUIET, *text_data, "hydra.run.dir=other").exit_code == 0
    assert precision_of(tmp_path / "other") == "float32"
