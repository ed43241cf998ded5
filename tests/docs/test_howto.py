"""The how-tos, done: all that they add is written into a copy of the project, and tried there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.added_files import ROOT, copy_project, follow

ADDING = {
    "norm": ["src/normlab/model/half_norm.py", "conf/model/norm/half.yaml", "tests/model/test_half_norm.py"],
    "optimizer": ["src/normlab/optim/signum.py", "conf/optimizer/signum.yaml", "tests/optim/test_signum.py"],
    "data-source": ["src/normlab/data/json_lines.py", "conf/data/json_lines.yaml", "tests/data/test_json_lines.py"],
    "experiment": ["conf/experiment/warmup.yaml"],
    "statistic": [
        "src/normlab/telemetry/kurtosis.py",
        "src/normlab/telemetry/activations.py",
        "src/normlab/telemetry/tensorboard_layout.py",
        "tests/telemetry/test_kurtosis.py",
    ],
}
FOUND_BY_THEMSELVES = [
    *(
        f"tests/conf/test_options.py::test_every_option_takes_a_step[{group}-{option}]"
        for group, option in (("model/norm", "half"), ("optimizer", "signum"), ("experiment", "warmup"))
    ),
    "tests/conf/test_experiments.py::test_the_header_says_what_is_asked_expected_and_paid[warmup-cpu]",
    "tests/conf/test_experiments.py::test_claims_and_baseline_speak_of_runs_that_are_made[warmup-cpu]",
]


def test_what_the_how_tos_add_works_and_comes_under_the_tests_that_hold_for_all(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project", has_tests=True)
    (project / "docs").symlink_to(ROOT / "docs")
    added = {name: follow((ROOT / "docs" / "howto" / f"{name}.md").read_text(), project) for name in ADDING}
    assert added == ADDING
    tests = [place for places in added.values() for place in places if place.startswith("tests/")]
    tried = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "tests/docs/in_a_copy.py",
            *tests,
            *FOUND_BY_THEMSELVES,
        ],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    if tried.returncode != 0:
        pytest.fail(tried.stdout[-6000:] + tried.stderr[-2000:])
