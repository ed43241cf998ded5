"""What the README says is so: its table is the generated one, and every command in it runs."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from normlab.app.options import markdown_table

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line.partition(" # ")[0].strip() for block in BLOCKS for line in block.splitlines()]
RUNS = [command for command in COMMANDS if command.startswith("python src/run.py")]
OTHERS = {"uv run python src/run.py", "uv run pytest -n auto", "tensorboard --logdir outputs"}
FATAL = ["model/norm=none", "init.scale.factor=1e30", "init.scale.roles=[ffn_down]"]
SMALL = ["model=micro", "trainer.steps=2", "trainer.val_tokens=256", "data.num_train_stories=200",
         "data.num_valid_stories=20", "tokenizer.vocab_size=300"]  # fmt: skip


def test_the_table_of_options_is_the_generated_one() -> None:
    found = re.search(r"<!-- options: begin -->\n(.*?)\n?<!-- options: end -->", README, flags=re.DOTALL)
    assert found and found[1] == markdown_table(), "Paste the output of normlab.app.options.markdown_table()."


def test_every_command_is_known_to_these_tests() -> None:
    assert set(COMMANDS) - set(RUNS) == OTHERS


FOLDERS = {"outputs/<date>/<time>": "outputs/first", "multirun/<date>/<time>": "multirun/first"}


def sized(command: str) -> list[str]:
    """The arguments of a README command, with what makes it small, and real folders in its placeholders."""
    for placeholder, folder in FOLDERS.items():
        command = command.replace(placeholder, folder)
    arguments = shlex.split(command.replace("range(3)", "0").replace("range(5)", "0"))[2:]
    without_training = (
        "resume=outputs", "task=generate", "task=evaluate", "task=autopsy", "task=report", "task=watch", "--help",
        "--cfg",
    )  # fmt: skip
    if any(argument.startswith(without_training) for argument in arguments):
        return arguments
    if "hydra/sweeper=frontier" in arguments:
        arguments += ["hydra.sweeper.per_decade=1", "hydra.sweeper.lowest=1e-3", "hydra.sweeper.highest=1e-2"]
    if any(argument.startswith("experiment=") for argument in arguments):
        arguments += ["optimizer.lr=1e-3", "attention/softmax=naive", *({"seed=0"} - set(arguments))]
    stories = [size for size in SMALL if not ("data=text" in arguments and size.startswith("data."))]
    return [*arguments, *stories]


@pytest.mark.parametrize("command_line", RUNS)
def test_the_commands_run(command_line: str, command, tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        (tmp_path / name).write_text("The cat sat on the mat. " * 60)
    if "<date>" in command_line:
        fatal = FATAL if "task=autopsy" in command_line else []
        is_of_sweep = "sweep=" in command_line
        first = ["--multirun", "hydra.sweep.dir=multirun/first"] if is_of_sweep else ["hydra.run.dir=outputs/first"]
        assert command(*first, *SMALL, *fatal).exit_code == 0
    said = command(*sized(command_line))
    assert said.exit_code == 0, said.err
    assert said.out


def test_tensorboard_finds_the_runs(command, tmp_path: Path) -> None:
    assert command(*SMALL).exit_code == 0
    executable = shutil.which("tensorboard", path=str(Path(sys.executable).parent))
    assert executable is not None
    found = subprocess.run(
        [executable, "--inspect", "--logdir", "outputs"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "loss/train" in found.stdout


@pytest.fixture
def with_added_norm(tmp_path: Path) -> Path:
    """A copy of the project with the README's norm in the places that it names."""
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    (option,) = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)
    project = tmp_path / "project"
    for folder in ("src", "conf"):
        shutil.copytree(ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for place, text in (("src/normlab/model/half_norm.py", code), ("conf/model/norm/half.yaml", option)):
        assert place in README
        (project / place).write_text(text)
    return project


def test_a_norm_is_added_in_one_file_and_one_yaml(with_added_norm: Path, tmp_path: Path) -> None:
    for eps, exit_code, told in (
        ("1e-6", 0, ""),
        ("-1", 2, "model.norm.eps must be a number greater than 0; got -1. Try model.norm.eps=1e-05."),
    ):
        command = [sys.executable, str(with_added_norm / "src/run.py"), "model/norm=half", f"model.norm.eps={eps}"]
        said = subprocess.run([*command, *SMALL], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert said.returncode == exit_code, said.stderr
        assert told in said.stderr
