"""What the README says is so: its table is the generated one, and every command in it runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.commands import SMALL, check_it_runs, commands_of, is_run
from tests.docs.added_files import ROOT

from normlab.app.options import markdown_table

README = (ROOT / "README.md").read_text()
COMMANDS = commands_of(README)
RUNS = [command for command in COMMANDS if is_run(command)]
OTHERS = {"uv run python src/run.py", "uv run pytest -n auto", "tensorboard --logdir outputs"}


def test_the_table_of_options_is_the_generated_one() -> None:
    found = re.search(r"<!-- options: begin -->\n(.*?)\n?<!-- options: end -->", README, flags=re.DOTALL)
    assert found and found[1] == markdown_table(), "Paste the output of normlab.app.options.markdown_table()."


def test_every_command_is_known_to_these_tests() -> None:
    assert set(COMMANDS) - set(RUNS) == OTHERS


@pytest.mark.parametrize("command_line", RUNS)
def test_the_commands_run(command_line: str, command, tmp_path: Path) -> None:
    check_it_runs(command_line, command, tmp_path)


def test_tensorboard_finds_the_runs(command, tmp_path: Path) -> None:
    assert command(*SMALL).exit_code == 0
    executable = shutil.which("tensorboard", path=str(Path(sys.executable).parent))
    assert executable is not None
    found = subprocess.run(
        [executable, "--inspect", "--logdir", "outputs"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "loss/train" in found.stdout
