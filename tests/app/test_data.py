"""Data through the command line: mixtures, token files, task=tokenize, sampling, kills and many processes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from normlab.core.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("model=micro", "trainer.steps=3", "trainer.val_tokens=256", "schedule.warmup_steps=1", "hydra.run.dir=run")
MIX = (
    "data=mix", "data.sources.stories.num_train_stories=100", "data.sources.stories.num_valid_stories=10",
    "+data.sources.own={_target_:normlab.data.text.TextFiles,train:[a.txt],valid:[c.txt]}", "+data.weights.own=2",
    "tokenizer.vocab_size=300",
)  # fmt: skip


def test_a_mixture_of_stories_and_text_trains(command, text_data, tmp_path: Path) -> None:
    said = command(*MIX, *SMALL)
    assert said.exit_code == 0, said.err
    assert RunFolder(tmp_path / "run").read_summary()["val_entropy"] is None
    said = command(*MIX, "trainer.sampling=without_replacement", "model=micro")
    assert said.exit_code == 2
    assert "trainer.sampling=with_replacement" in said.err
    said = command(*MIX, "data.weights.stories=-1", "model=micro")
    assert said.exit_code == 2
    assert "data.weights.stories must be a number at least 0" in said.err


def test_token_files_train_and_evaluate_without_a_tokenizer(command, tmp_path: Path) -> None:
    for name in ("train.bin", "valid.bin"):
        (np.arange(4_000) % 50).astype("<u2").tofile(tmp_path / name)
    data = ("data=tokens", "data.train=[train.bin]", "data.valid=[valid.bin]", "data.tokenizer=50")
    said = command(*data, *SMALL, "trainer.sampling=without_replacement")
    assert said.exit_code == 0, said.err
    assert "without a tokenizer" in (tmp_path / "run" / "samples.txt").read_text()
    assert command("task=evaluate", "checkpoint=run").exit_code == 0
    larger = command("task=evaluate", "checkpoint=run", *data[:-1])
    assert larger.exit_code == 2
    assert "of the model's vocabulary" in larger.err
    said = command("task=generate", "checkpoint=run")
    assert said.exit_code == 2
    assert "writes no text" in said.err


def test_a_mixture_that_was_tokenized_is_not_encoded_again(command, text_data) -> None:
    said = command("task=tokenize", *MIX)
    assert said.exit_code == 0, said.err
    assert said.out.count("train: ") == said.out.count("valid: ") == 2
    said = command(*MIX, *SMALL)
    assert said.exit_code == 0, said.err
    assert "Encoding" not in said.err and "Training" not in said.err


def test_training_and_validation_on_the_same_text_is_noted_once(command, text_data) -> None:
    said = command("task=tokenize", "data=text", "data.train=[a.txt]", "data.valid=a.txt", "tokenizer=bytes")
    assert said.exit_code == 0, said.err
    assert said.err.count("note: data.train and data.valid are the same") == 1
    assert "2 documents" in said.out
    said = command("task=tokenize", *text_data, "tokenizer=bytes")
    assert "note:" not in said.err
    assert " of 1 document, " in said.out


def test_patterns_name_text_files(command, text_data, tmp_path: Path) -> None:
    (tmp_path / "aa.txt").write_text("One more text.")
    said = command("task=tokenize", "data=text", "data.train=[a.txt,aa.txt]", "data.valid=c.txt", "tokenizer=bytes")
    assert said.exit_code == 0, said.err
    pattern = command("task=tokenize", "data=text", "data.train=a*.txt", "data.valid=[c.*]", "tokenizer=bytes")
    assert pattern.out == said.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_tokenizing_that_is_interrupted_says_how_to_go_on(number: signal.Signals, text_data, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The cat sat on the mat and thought of mice. " * 500_000)
    arguments = ("task=tokenize", *text_data, "tokenizer=bytes")
    process = run_in_a_process(tmp_path, *arguments)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("data/tokens/.*.partial")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 128 + number
    assert err.splitlines()[-1] == "interrupted: type the same command again to go on"
    assert "Traceback" not in err
    again = run_in_a_process(tmp_path, *arguments)
    _, err = again.communicate()
    assert again.returncode == 0, err


def test_a_preparation_that_is_terminated_leaves_no_run_folder(text_data, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The cat sat on the mat and thought of mice. " * 500_000)
    process = run_in_a_process(tmp_path, *text_data, "tokenizer=bytes", "model=micro")
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("data/tokens/.*.partial")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM
    assert err.splitlines()[-1] == "interrupted: type the same command again to go on"
    assert not (tmp_path / "outputs").exists()


def test_tokenize_prepares_what_a_run_then_finds_and_exports(command, text_data, tmp_path: Path) -> None:
    said = command("task=tokenize", *text_data, "tokenizer.vocab_size=300", "export=out")
    assert said.exit_code == 0, said.err
    assert "train: " in said.out and "bytes a token" in said.out
    theirs = Tokenizer.from_file(str(tmp_path / "out" / "tokenizer.json"))
    assert theirs.decode(theirs.encode("The dog sat.").ids) == "The dog sat."
    said = command(*text_data, "tokenizer.vocab_size=300", *SMALL)
    assert said.exit_code == 0
    assert "Training a tokenizer" not in said.err and "Encoding" not in said.err
    losses = RunFolder(tmp_path / "run").read_summary()["final_train_loss"]
    for number, name in enumerate(("normlab.json", "tokenizer.json", "tokenizer.tiktoken")):
        run = f"hydra.run.dir=run{number}"
        said = command(*text_data, "tokenizer=file", f"tokenizer.path=out/{name}", *SMALL[:-1], run)
        assert said.exit_code == 0, said.err
        assert RunFolder(tmp_path / f"run{number}").read_summary()["final_train_loss"] == losses
    said = command(*text_data, "tokenizer=file", "tokenizer.path=absent.json", *SMALL[:-1], "hydra.run.dir=none")
    assert said.exit_code == 2
    assert "absent.json" in said.err and not (tmp_path / "none").exists()


def test_an_export_that_cannot_be_written_is_refused(command, text_data) -> None:
    said = command("task=tokenize", *text_data, "tokenizer.vocab_size=300", "export=/proc/nowhere")
    assert said.exit_code == 2
    assert said.err.splitlines()[-1].startswith("error: export must be a folder that can be written; /proc/nowhere")


def test_a_changed_file_is_noticed(command, text_data, tmp_path: Path) -> None:
    assert command("task=tokenize", *text_data, "tokenizer=bytes").exit_code == 0
    (tmp_path / "a.txt").write_text("Now for something else. " * 50)
    assert "Encoding the train split" in command("task=tokenize", *text_data, "tokenizer=bytes").err


def run_in_a_process(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(ROOT / "src" / "run.py"), *arguments],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler) and None,  # a shell may ignore it
    )


def test_a_killed_preparation_is_finished_by_the_next(text_data, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The cat sat on the mat and thought of mice. " * 200_000)
    arguments = ("task=tokenize", *text_data, "tokenizer=bytes")
    first = run_in_a_process(tmp_path, *arguments)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("data/tokens/.*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    first.kill()
    first.communicate()
    second = run_in_a_process(tmp_path, *arguments)
    _, err = second.communicate()
    assert second.returncode == 0, err
    assert len(list(tmp_path.glob("data/tokens/*.bin"))) == 2
    assert not [path for path in tmp_path.glob("data/tokens/.*") if path.suffix != ".lock"]


def test_jobs_that_start_together_prepare_once(text_data, tmp_path: Path) -> None:
    processes = [run_in_a_process(tmp_path, "task=tokenize", *text_data, "tokenizer.vocab_size=300") for _ in range(3)]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert sum("Training a tokenizer" in text for text in said) == 1
    assert sum("Encoding the train split" in text for text in said) == 1


@pytest.mark.parametrize("text", ["a" * 20_000, "\0" * 5_000 + "b", "\n" * 9_999 + "x"])
def test_odd_corpora_train(text: str, command, tmp_path: Path) -> None:
    (tmp_path / "odd.txt").write_text(text)
    said = command(
        "data=text", "data.train=odd.txt", "data.valid=odd.txt", "tokenizer.vocab_size=300",
        "model.context_length=4", *SMALL,
    )  # fmt: skip
    assert said.exit_code in (0, 2), said.err
    assert "Traceback" not in said.err
    if said.exit_code == 2:
        assert "more tokens" in said.err
