"""Plants what goes wrong into the nth call of a function, named by where its caller looks it up."""

import importlib
from collections.abc import Callable
from typing import Any

import pytest


def planted_error(monkeypatch: pytest.MonkeyPatch, function: str, error: Exception, *, nth: int = 1) -> None:
    """The nth call raises."""

    def fail() -> None:
        raise error

    before_call(monkeypatch, function, fail, nth=nth)


def before_call(monkeypatch: pytest.MonkeyPatch, function: str, act: Callable[[], object], *, nth: int = 1) -> None:
    """Something is done first in the nth call of a function, or of a method of a class."""
    owner_name, _, name = function.rpartition(".")
    owner = _named(owner_name)
    original, calls = getattr(owner, name), []

    def acting(*arguments: Any, **keywords: Any) -> Any:
        calls.append(None)
        if len(calls) == nth:
            act()
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, acting)


def _named(name: str) -> Any:
    """A module, or a class in one."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, _, attribute = name.rpartition(".")
        return getattr(importlib.import_module(module), attribute)
