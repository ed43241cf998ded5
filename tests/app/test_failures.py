"""From an exception to an outcome and one line."""

import errno
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from normlab.app.failures import failure_of
from normlab.app.memory import check_memory, free_bytes
from normlab.core.records import Outcome

RUN = Path("outputs/run")


def of_the_system(number: int, name: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), name)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (of_the_system(errno.ENOSPC), "the disk is full: no more could be written to outputs/run. Free some space."),
        (
            of_the_system(errno.EDQUOT, "a.json"),
            "the disk is full: no more could be written to a.json. Free some space.",
        ),
        (
            SafetensorError("Error while serializing: I/O error: … (os error 28)"),
            "the disk is full: no more could be written to outputs/run. Free some space.",
        ),
        (
            of_the_system(errno.EROFS, "a.json"),
            "a.json cannot be written or read (Read-only file system). Make it writable for this user.",
        ),
        (of_the_system(errno.ENOENT, "a.bin"), "a.bin is gone. Put it back."),
        (of_the_system(errno.EIO, "a.bin"), "a.bin could not be read or written (Input/output error). Check the disk."),
        (of_the_system(errno.EMFILE, "a.bin"), "too many files are open. Type ulimit -n 4096 first."),
    ],
)
def test_what_the_system_refuses_is_a_crash_that_somebody_foresaw(error: Exception, line: str) -> None:
    assert failure_of(error, RUN) == (Outcome.CRASHED, line, False)


@pytest.mark.parametrize(
    ("error", "amount"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has …"), ": 2.50 GiB more"),
        (
            RuntimeError("… DefaultCPUAllocator: can't allocate memory: you tried to allocate 3200000000 bytes."),
            ": 3.2 GB",
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: …)"), "."),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), "."),
        (MemoryError("Unable to allocate 7.45 GiB for an array"), ": Unable to allocate 7.45 GiB"),
        (MemoryError(), "."),
        (of_the_system(errno.ENOMEM), "."),
    ],
)
def test_too_little_memory_is_an_outcome_of_its_own(error: Exception, amount: str) -> None:
    outcome, line, is_ours = failure_of(error, RUN)
    assert outcome == Outcome.OUT_OF_MEMORY
    assert line.startswith(f"not enough memory{amount}")
    assert "trainer.batch_size" in line
    assert not is_ours


@pytest.mark.parametrize("error", [RuntimeError("a\nb"), SafetensorError("bad header"), OSError("odd")])
def test_whatever_else_happens_is_ours_and_still_one_line(error: Exception) -> None:
    outcome, line, is_ours = failure_of(error, RUN)
    assert outcome == Outcome.CRASHED
    assert is_ours
    assert line.startswith(type(error).__name__)
    assert len(line.splitlines()) == 1


def test_a_real_allocation_that_is_refused_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 50)
    assert failure_of(caught.value, RUN).outcome == Outcome.OUT_OF_MEMORY


def test_weights_and_gradients_must_fit_into_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normlab.app.memory.free_bytes", lambda: 2 * 4 * 1000)
    check_memory(lambda: torch.nn.Linear(1000, 1, bias=False))
    with pytest.raises(MemoryError, match=r"weights and gradients take 0\.0 GB"):
        check_memory(lambda: torch.nn.Linear(1001, 1, bias=False))


def test_what_cannot_be_counted_is_let_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def counts_its_weights() -> torch.nn.Module:
        torch.nn.Linear(2, 2).weight.sum().item()
        raise AssertionError("not reached on the meta device")

    check_memory(counts_its_weights)
    monkeypatch.setattr("normlab.app.memory.free_bytes", lambda: None)
    check_memory(lambda: torch.nn.Linear(1 << 30, 1 << 30))


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:  5 kB\nSwapFree:  1 kB\n")
    monkeypatch.setattr("normlab.app.memory.MEMORY", tmp_path / "meminfo")
    monkeypatch.setattr("normlab.app.memory.LIMIT", tmp_path / "max")
    assert free_bytes() == 6 * 1024
    for limit, expected in (("max", 6 * 1024), ("4096", 4096)):
        (tmp_path / "max").write_text(f"{limit}\n")
        assert free_bytes() == expected
    monkeypatch.setattr("normlab.app.memory.MEMORY", tmp_path / "absent")
    assert free_bytes() is None
