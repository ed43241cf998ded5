"""What a run can do without fails for itself alone, and says so once."""

from pathlib import Path

import pytest
from tests.app.planting import planted_error

from normlab.app.dispensable import Dispensable
from normlab.core.records import StepRecord
from normlab.core.run_folder import RunFolder
from normlab.telemetry.sinks import Sink

SMALL = ("model=micro", "tokenizer=bytes", "trainer.steps=3", "trainer.val_tokens=256", "schedule.warmup_steps=1")
FAULT = OSError(28, "No space left on device")
RECORD = StepRecord(step=1, tokens=1, seconds=1.0, lr=0.1, train_loss=1.0, grad_norm=1.0)


class Failing(Sink):
    """Fails at every second record, and when closed."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def record(self, record: StepRecord) -> None:
        self.heard.append("record")
        if len(self.heard) % 2 == 0:
            raise FAULT

    def close(self) -> None:
        self.heard.append("close")
        raise FAULT


def test_the_first_failure_is_said_and_the_sink_closed_and_never_asked_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    inner = Failing()
    sink = Dispensable("logger", lambda: inner)
    for _ in range(4):
        sink.record(RECORD)
    sink.text("tag", "text")
    sink.close()
    assert inner.heard == ["record", "record", "close"]
    said = capsys.readouterr().err
    assert (
        said
        == "note: logger: off from now on (OSError: [Errno 28] No space left on device); the run goes on without.\n"
    )


def test_an_interrupt_is_no_failure() -> None:
    def interrupted() -> Sink:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Dispensable("logger", interrupted)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        ("normlab.telemetry.event_file.EventFile.__init__", "the logger tensorboard"),
        ("normlab.telemetry.event_file.EventFile.add", "the logger tensorboard"),
        ("normlab.telemetry.figures.drawn_figures", "figures"),
        ("normlab.telemetry.console.ConsoleSink.__init__", "the terminal"),
        ("normlab.telemetry.console.ConsoleSink._print", "the terminal"),
    ],
)
def test_a_run_is_completed_without_what_failed(
    function: str, name: str, command, text_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted_error(monkeypatch, function, FAULT)
    said = command(*SMALL, *text_data, "telemetry=full", "hydra.run.dir=run")
    assert said.exit_code == 0, said.err
    assert said.err.count("off from now on") == 1
    assert f"note: {name}: off from now on" in said.err
    assert len(list(RunFolder(tmp_path / "run").read_metrics())) == 3


def test_a_tensorboard_folder_that_cannot_be_made_costs_the_events_alone(command, text_data, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("in the way")
    said = command(*SMALL, *text_data, "hydra.run.dir=run")
    assert said.exit_code == 0, said.err
    assert "note: the logger tensorboard: off from now on (FileExistsError" in said.err
