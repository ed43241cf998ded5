"""Every command on the pages of docs/ is run, by a test that is named here; every link leads somewhere."""

import re
from pathlib import Path

import pytest
from tests.commands import QUICK, check_it_runs, commands_of, is_run
from tests.docs.added_files import ROOT

DOCS = ROOT / "docs"
PAGES = [
    path
    for path in sorted([*DOCS.rglob("*.md"), ROOT / "CONTRIBUTING.md"])
    if path.relative_to(DOCS if DOCS in path.parents else ROOT).parts[0] not in ("findings", "decisions")
]
OF_HOWTOS = {"norm", "optimizer", "data-source", "experiment", "statistic"}
"""Their commands need what the pages add: tests/docs/test_howto.py."""
TO_SET_UP = {"uv sync", "source .venv/bin/activate", "uv sync --extra submitit", "pytest tests/model/test_norms.py",
             "pytest -n auto", ".ci/run", "uv sync --extra notebook"}  # fmt: skip
"""What made the environment of these tests, and what runs them."""
ELSEWHERE = {
    'eval "$(python src/run.py --shell-completion install=bash)"': "tests/docs/test_shell_completion.py",
    "complete -r python": "tests/docs/test_shell_completion.py",
    "tensorboard --logdir multirun": "tests/test_readme.py",
}
OF_A_CLUSTER = "hydra/launcher=slurm"
"""tests/app/slurm has a scheduler of its own for the launcher; these commands name partitions and GPUs."""
OF_SEVERAL_PROCESSES = "torchrun "
"""tests/app/test_torchrun.py"""
COMMANDS = [(page, line) for page in PAGES if page.stem not in OF_HOWTOS for line in commands_of(page.read_text())]
RUNS = [
    pytest.param(line, id=f"{page.stem}: {line}")
    for page, line in COMMANDS
    if is_run(line) and OF_A_CLUSTER not in line
]


def test_every_command_is_known_to_these_tests() -> None:
    known = TO_SET_UP | ELSEWHERE.keys()
    lines = {line for _, line in COMMANDS if not is_run(line) and not line.startswith(OF_SEVERAL_PROCESSES)}
    assert lines <= known
    assert all((ROOT / place).is_file() for place in ELSEWHERE.values())


def test_every_how_to_that_adds_something_is_tried() -> None:
    assert {page.stem for page in (DOCS / "howto").glob("*.md")} == {*OF_HOWTOS, "shell-completion"}


@pytest.mark.parametrize("command_line", RUNS)
def test_the_commands_run(command_line: str, command, tmp_path: Path) -> None:
    check_it_runs(command_line, command, tmp_path, QUICK)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target.read_text()), link


def test_the_index_leads_to_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    for page in PAGES:
        if DOCS in page.parents and page != DOCS / "README.md":
            assert f"({page.relative_to(DOCS)})" in index, page.name


def _anchors(text: str) -> set[str]:
    """Of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
