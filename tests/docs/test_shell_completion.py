"""Tab in a real bash, after the page's line: what the completion function offers."""

import os
import subprocess
import sys
from pathlib import Path

from tests.commands import commands_of

from normlab.app.options import group_descriptions

ROOT = Path(__file__).resolve().parents[2]
INSTALL, REMOVE = commands_of((ROOT / "docs" / "howto" / "shell-completion.md").read_text())
ASK = """
COMP_LINE={line!r} COMP_CWORD=2
COMP_POINT=${{#COMP_LINE}}
export COMP_LINE COMP_POINT COMP_CWORD
hydra_bash_completion
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
NORMS = {f"model/norm={option}" for option in group_descriptions()["model/norm"]}
PARTS = {f"{group}=" for group in group_descriptions() if group.startswith("model/")}


def said_by_bash(script: str) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ran = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=ROOT,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_tab_offers_groups_options_and_keys_until_it_is_taken_away() -> None:
    typed = {"model/norm=": NORMS, "model/": PARTS, "optimizer.l": {"optimizer.lr="}}
    asked = "echo ---\n".join(ASK.format(line=f"python src/run.py {word}") for word in typed)
    offered = said_by_bash(
        f"{INSTALL}\n{asked}\necho ---\ncomplete -p python\n{REMOVE}\ncomplete -p python 2>&1 || true"
    )
    *offers, (installed, removed) = [part.splitlines() for part in offered.split("---\n")]
    assert dict(zip(typed, map(set, offers), strict=True)) == typed
    assert "-F hydra_bash_completion python" in installed
    assert "no completion specification" in removed


def test_a_tasks_own_keys_are_offered() -> None:
    line = "python src/run.py task=report swe"
    environment = {**os.environ, "COMP_LINE": line, "COMP_POINT": str(len(line))}
    asked = [sys.executable, "src/run.py", "-sc", "query=bash"]
    ran = subprocess.run(asked, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert "sweep=" in ran.stdout.split()
