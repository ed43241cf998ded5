"""The workflow that runs elsewhere does what .ci/run does here."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
WORKFLOW = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())
JOB = WORKFLOW["jobs"]["tests"]


def test_its_checks_are_those_of_the_gate_in_their_order() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    gate = [line.partition(" || ")[0].partition(" 2>")[0].strip() for line in lines if line.startswith("uv run ")]
    checks = [step["run"] for step in JOB["steps"] if step.get("run", "").startswith("uv run ") and "if" not in step]
    assert [re.sub(" --no-logo$", "", line) for line in gate] == checks
    assert len(checks) == 5


def test_no_check_may_fail_unseen() -> None:
    assert not any("continue-on-error" in step for step in [JOB, *JOB["steps"]])


def test_it_covers_both_systems_and_every_python_from_the_oldest_that_the_project_takes() -> None:
    matrix = JOB["strategy"]["matrix"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos"}
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    assert project["requires-python"] == f">={matrix['python'][0]}"
