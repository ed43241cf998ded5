"""What summary.json says of the text: bytes per token, so that losses under different tokenizers can be compared."""

from pathlib import Path

import numpy as np

from normlab.core.run_folder import RunFolder

SMALL = (
    "model=micro", "trainer.steps=1", "trainer.val_tokens=64", "schedule.warmup_steps=1", "logger=none",
    "hydra.run.dir=run",
)  # fmt: skip
TEXT = "The dog sat on the café's cat. " * 40


def bytes_per_token(folder: Path) -> float | None:
    return RunFolder(folder / "run").read_summary()["bytes_per_token"]


def test_bytes_of_the_text_are_shared_out_over_its_tokens_and_its_end(command, text_data, tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text(TEXT)
    num_bytes = len(TEXT.encode())
    assert num_bytes > len(TEXT)
    said = command(*SMALL, *text_data, "tokenizer=bytes")
    assert said.exit_code == 0, said.err
    assert bytes_per_token(tmp_path) == num_bytes / (num_bytes + 1)


def test_a_mixture_counts_the_bytes_of_all_its_texts(command, text_data, tmp_path: Path) -> None:
    own = "{_target_:normlab.data.text.TextFiles,train:[a.txt],valid:[c.txt]}"
    stories = "data.sources.stories.num_train_stories=50", "data.sources.stories.num_valid_stories=5"
    said = command(*SMALL, "data=mix", *stories, f"+data.sources.own={own}", "+data.weights.own=2", "tokenizer=bytes")
    assert said.exit_code == 0, said.err
    found, num_documents = bytes_per_token(tmp_path), 5 + 1
    assert found is not None
    num_tokens = num_documents / (1 - found)  # a token a byte, and one at the end of each document
    assert abs(num_tokens - round(num_tokens)) < 1e-6 and num_tokens > len((tmp_path / "c.txt").read_bytes())


def test_token_files_do_not_tell_the_length_of_their_text(command, tmp_path: Path) -> None:
    for name in ("train.bin", "valid.bin"):
        (np.arange(4_000) % 50).astype("<u2").tofile(tmp_path / name)
    said = command(*SMALL, "data=tokens", "data.train=[train.bin]", "data.valid=[valid.bin]", "data.tokenizer=50")
    assert said.exit_code == 0, said.err
    assert bytes_per_token(tmp_path) is None
