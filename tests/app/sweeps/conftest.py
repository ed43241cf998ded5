"""Fixtures of the tests of sweeps."""

from pathlib import Path

import pytest


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps end without a report, which takes longer than their runs."""
    monkeypatch.setattr("normlab.app.sweeps.closing.write_report", lambda folder: Path(folder) / "report")
