"""Fixtures of the tests of packs."""

from tests.app.sweeps.conftest import no_report

__all__ = ["no_report"]
