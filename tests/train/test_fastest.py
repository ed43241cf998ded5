"""What trainer=auto chooses: measured on this machine, the same for all its processes, and never what cannot work."""

import os
from pathlib import Path

import pytest

from normlab.train import fastest


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fastest.CHOSEN, "to be removed")  # so that what the test sets is taken back
    monkeypatch.delenv(fastest.CHOSEN)


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"float32": 100.0, "bfloat16": 200.0}, "bfloat16"),
        ({"float32": 100.0, "bfloat16": 120.0}, "float32"),
        ({"float32": 100.0, "bfloat16": 50.0}, "float32"),
        ({}, "float32"),
    ],
)
def test_bfloat16_must_be_clearly_faster(
    rates: dict[str, float], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fastest, "matmul_rates", lambda kind: rates)
    assert fastest.fastest_precision("cpu") == expected


def test_a_choice_is_made_once_for_a_process_and_those_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest, "matmul_rates", lambda kind: {"float32": 1.0, "bfloat16": 3.0})
    fastest.fastest_precision("cpu")
    monkeypatch.setattr(fastest, "matmul_rates", lambda kind: {"float32": 3.0, "bfloat16": 1.0})
    assert fastest.fastest_precision("cpu") == os.environ[fastest.CHOSEN] == "bfloat16"


def test_the_rates_of_this_machine_are_measured() -> None:
    rates = fastest.matmul_rates("cpu")
    assert rates.keys() == {"float32", "bfloat16"}
    assert all(rate > 0 for rate in rates.values())


@pytest.mark.parametrize("kind", ["mps", "xpu", "nonsense"])
def test_other_devices_are_not_measured(kind: str) -> None:
    assert fastest.matmul_rates(kind) == {}


def test_nothing_is_compiled_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastest.shutil, "which", lambda name: None)
    assert not fastest.can_compile("cpu")


def test_nothing_is_compiled_without_the_headers_of_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fastest.shutil, "which", lambda name: "/usr/bin/g++")
    monkeypatch.setattr(fastest.sysconfig, "get_path", lambda name: str(tmp_path))
    assert not fastest.can_compile("cpu")
    (tmp_path / "Python.h").touch()
    assert fastest.can_compile("cpu")


def test_other_devices_than_cuda_and_the_cpu_compile_nothing() -> None:
    assert not fastest.can_compile("mps")
