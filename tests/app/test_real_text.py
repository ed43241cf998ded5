"""The main job on text that people wrote; skipped where that text is not beside the repository."""

from pathlib import Path

import pytest

from normlab.core.run_folder import RunFolder

TEXTS = Path(__file__).resolve().parents[3] / "shared" / "data"
RUN = ["model=micro", "trainer.steps=30", "trainer.val_tokens=2048", "schedule.warmup_steps=5"]


@pytest.mark.parametrize("name", ["tinyshakespeare.txt", "tinystories-sample.txt", "books-valid.txt"])
@pytest.mark.parametrize("norm", ["rmsnorm", "none"])
def test_a_slice_of_real_text_trains(name: str, norm: str, command, tmp_path: Path) -> None:
    if not (TEXTS / name).is_file():
        pytest.skip(f"{name} is not in shared/data beside the repository")
    text = (TEXTS / name).read_text(encoding="utf-8")[:150_000]
    (tmp_path / "train.txt").write_text(text[:120_000], encoding="utf-8")
    (tmp_path / "valid.txt").write_text(text[120_000:], encoding="utf-8")

    said = command(
        "data=text", "data.train=train.txt", "data.valid=valid.txt", f"model/norm={norm}", "tokenizer.vocab_size=500",
        "hydra.run.dir=run", *RUN,
    )  # fmt: skip

    assert said.exit_code == 0, said.err
    summary = RunFolder(tmp_path / "run").read_summary()
    assert summary["outcome"] == "completed"
    assert summary["final_val_loss"] < summary["initial_loss"]
    assert summary["val_entropy"] is None
