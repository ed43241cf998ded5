"""Sweeps whose runs have processes of their own: one that is killed takes no other run along."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from tests.app.run_differences import differences
from tests.app.sweeps.ending import ENDS, SPARED
from tests.app.sweeps.sweeping import LOGGED, QUICK, SMALL, SWEEP, outcomes, runs, steps_taken, table

from normlab.app.launchers import PLUGINS

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_SECONDS = 300
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
LAUNCHERS = {"joblib": JOBLIB, "submitit_local": ("hydra/launcher=submitit_local",)}
STEPS = ("trainer.steps=4", "trainer.checkpoint_every=1")


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Other processes find the tests, and are gone at the end."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "src")]))
    monkeypatch.setattr("normlab.app.sweeps.launching.QUIET_SECONDS", 15.0)
    yield
    from joblib.externals.loky import get_reusable_executor

    get_reusable_executor().shutdown(wait=True, kill_workers=True)


@pytest.mark.parametrize("launcher", [pytest.param("joblib"), pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_a_killed_process_ends_no_other_run(launcher: str, command, text_data, tmp_path: Path, elsewhere) -> None:
    pytest.importorskip(launcher.partition("_")[0])
    again = ("--multirun", *QUICK, *STEPS, SWEEP, *ENDS, *text_data, *LAUNCHERS[launcher])
    said = command(*again)
    assert said.exit_code == 1, said.err
    assert outcomes(tmp_path / "sweep") == ["completed", "nonfinite", "crashed", None]
    assert "note: a process of the sweep has ended unasked" in said.err
    assert "4 runs: 1 completed, 1 nonfinite, 2 crashed" in said.out
    assert "  end=crashes: crashed (RuntimeError: a planted fault)\n" in said.out
    assert "  end=killed: its process was killed\n" in said.out
    before = steps_taken(tmp_path / "sweep")

    (tmp_path / SPARED).touch()
    said = command(*again)
    assert said.exit_code == 0, said.err
    assert "2 runs have a result already: they are not run again." in said.err
    assert outcomes(tmp_path / "sweep") == ["completed", "nonfinite", "completed", "completed"]
    is_same = [before[run.path.name] == run.metrics.read_bytes() for run in runs(tmp_path / "sweep")]
    assert is_same == [True, True, False, False]


@pytest.mark.parametrize("launcher", [pytest.param("joblib"), pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_runs_in_processes_have_the_bytes_of_runs_in_one(
    launcher: str, command, text_data, tmp_path: Path, elsewhere
) -> None:
    pytest.importorskip(launcher.partition("_")[0])
    asked = ("--multirun", *LOGGED, *STEPS, *text_data, "seed=0,1")
    assert command(*asked, "hydra.sweep.dir=here").exit_code == 0
    said = command(*asked, SWEEP, *LAUNCHERS[launcher])
    assert said.exit_code == 0, said.err
    assert len([line for line in said.out.splitlines() if line.startswith("[") and "completed, val loss" in line]) == 2
    assert table(tmp_path / "sweep") == table(tmp_path / "here")
    for one, other in zip(runs(tmp_path / "sweep"), runs(tmp_path / "here"), strict=True):
        different = [line for line in differences(one, other) if ".hydra" not in line and "hardware" not in line]
        assert different == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_ends_all_processes_and_the_sweep_goes_on_as_if_nothing_had_been(
    number: signal.Signals, command, text_data, tmp_path: Path, elsewhere
) -> None:
    """Ctrl-C is sent to all of them, SIGKILL to the first alone."""
    pytest.importorskip("joblib")
    asked = ("--multirun", *QUICK, "trainer.steps=200", "trainer.checkpoint_every=5", *text_data, "seed=0,1,2")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "src" / "run.py"), *asked, SWEEP, *JOBLIB],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,
    )
    try:
        wait_until(lambda: len(saved(tmp_path / "sweep")) == 2, process)
        if number == signal.SIGKILL:
            process.kill()
        else:
            os.killpg(process.pid, number)
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
            assert process.returncode == 130, err
            assert "go on with it: python src/run.py --multirun" in out
        wait_until(lambda: not others_of_session(process.pid))
    finally:
        for pid in [process.pid, *others_of_session(process.pid)]:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        process.communicate()
    assert command(*asked, SWEEP).exit_code == 0
    assert command(*asked, "hydra.sweep.dir=undisturbed").exit_code == 0
    assert table(tmp_path / "sweep") == table(tmp_path / "undisturbed")


def test_a_launcher_that_cannot_start_a_run_gives_up(command, text_data, tmp_path: Path, elsewhere) -> None:
    pytest.importorskip("submitit")
    said = command("--multirun", *SMALL, *text_data, "seed=0,1", "hydra/launcher=submitit_slurm")
    assert said.exit_code == 1
    assert said.err.count("\n") == 2 and "Traceback" not in said.err
    assert "error: the launcher cannot start the runs. Try hydra/launcher=basic." in said.err
    assert said.out.count("the launcher could not start it (RuntimeError: Could not detect") == 2


@pytest.mark.parametrize(
    ("launcher", "extra"),
    [("joblib", "joblib"), ("submitit_local", "submitit"), ("submitit_slurm", "submitit"), ("slurm", "submitit")],
)
def test_a_launcher_that_is_not_installed_gets_one_line(
    launcher: str, extra: str, command, text_data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hide_plugin(launcher, monkeypatch)
    said = command("--multirun", *SMALL, *text_data, "seed=0,1", f"hydra/launcher={launcher}")
    assert said.exit_code == 2
    assert said.err.startswith(f"error: hydra/launcher={launcher} needs hydra-{extra}-launcher,")
    assert said.err.count("\n") == 1
    assert f"Type uv sync --extra {extra}, or pip install hydra-{extra}-launcher." in said.err
    assert not (tmp_path / "sweep").exists()


def hide_plugin(launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package of the launcher were not there."""
    Plugins.instance()
    launchers = ConfigStore.instance().repo["hydra"]["launcher"]
    monkeypatch.setitem(sys.modules, PLUGINS[launcher], None)
    for name in (name for name, plugin in PLUGINS.items() if plugin == PLUGINS[launcher]):
        monkeypatch.delitem(launchers, f"{name}.yaml", raising=False)


def saved(sweep: Path) -> list[Path]:
    return list(sweep.glob("*/checkpoints/last"))


def others_of_session(session: int) -> list[int]:
    """The processes of a session that still live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                found.append(int(stat.parent.name))
    return found


def wait_until(is_so: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> None:
    """Until it is so; fails where the process ends before, or nothing happens for very long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.05)
