"""A laboratory for the stability of language model training.

Imports point one way: app -> report | train -> autopsy -> telemetry -> data | model | optim -> core.
For notebooks there are the names in ``__all__`` (docs/notebooks.md), which are imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normlab.app.notebook import Run, Sweep, build_model, compose, open_run, open_sweep
    from normlab.core.errors import UserError

__all__ = ["Run", "Sweep", "UserError", "build_model", "compose", "open_run", "open_sweep"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("normlab.core.errors" if name == "UserError" else "normlab.app.notebook"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
