"""Standard streams whose reader has gone, or that never were."""

import os
import subprocess
import sys

import pytest

WRITES = """
import os, sys
from normlab.app.announce import announce
from normlab.app.streams import lasting_streams
with lasting_streams():
    for _ in range(20_000):
        print("a line for somebody who has gone")
        announce("a line on standard error")
    assert os.open(os.devnull, os.O_RDONLY) > 2
    with open(os.environ["REACHED"], "w") as file:
        file.write("the end")
"""


def outcome_of(tmp_path, shell_words: str) -> tuple[int, str, str]:
    """Exit code, standard error and what the script wrote at its end; the words follow the command in a shell."""
    reached = tmp_path / "reached"
    done = subprocess.run(
        ["bash", "-c", f'"$0" -c "$1" {shell_words}', sys.executable, WRITES],
        capture_output=True,
        text=True,
        env={**os.environ, "REACHED": str(reached), "PYTHONUNBUFFERED": ""},  # what is pending fails at exit
        timeout=60,
    )
    return done.returncode, done.stderr, reached.read_text() if reached.is_file() else ""


@pytest.mark.parametrize(
    "shell_words",
    [
        "2>/dev/null | head -1; exit ${PIPESTATUS[0]}",
        "2>&1 | head -1; exit ${PIPESTATUS[0]}",
        ">&-",
        "2>&-",
        ">&- 2>&-",
    ],
)
def test_work_goes_on_to_its_end(shell_words: str, tmp_path) -> None:
    exit_code, err, reached = outcome_of(tmp_path, shell_words)
    assert exit_code == 0, err
    assert "Error" not in err
    assert reached == "the end"
