"""The code of a model as files of one folder that need torch and transformers, and nothing of normlab's.

The modules that the model uses are copied, with what they import of each other; imports become relative. ``parts.py``
lists what the configuration names: with it the folder can build this architecture and none but this.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from normlab.app.targets import IDENTITY, OWN_PACKAGE
from normlab.core.errors import ConfigError

IN_FOLDER = "normlab.app.hugging_face.in_folder"
ENTRY, PARTS = f"{IN_FOLDER}.modeling_normlab", f"{IN_FOLDER}.parts"
STANDS_IN = {
    "normlab.model.attention_kernel": f"{IN_FOLDER}.attention_kernel",
    "normlab.model.flex_attention": f"{IN_FOLDER}.flex_attention",
}
"""What compiles code of its own is replaced by what does without."""


def files_of(architecture: Mapping[str, Any]) -> dict[str, str]:
    """The content of every file by its name; raises ConfigError where a part is no code of normlab's."""
    targets = sorted(set(_targets(architecture)) - {IDENTITY})
    foreign = next((target for target in targets if target.partition(".")[0] != OWN_PACKAGE), None)
    if foreign is not None:
        raise ConfigError(
            f"What is exported must be of normlab's own parts; the run has {foreign}, which others do not have. "
            "Export a run without it."
        )
    modules = _with_imports([ENTRY, *(target.rpartition(".")[0] for target in targets)])
    files = {f"{_short(module)}.py": _relative(module) for module in modules}
    assert len(files) == len(modules), "two modules of one name"
    files[f"{_short(PARTS)}.py"] = _parts(targets, modules)
    return files


def _targets(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node["_target_"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from _targets(child)


def _with_imports(modules: Iterable[str]) -> list[str]:
    """The modules and all of normlab's that they import, in alphabetical order."""
    found: set[str] = set()
    waiting = set(modules)
    while waiting:
        module = waiting.pop()
        found.add(module)
        waiting |= set(_imports_of(module)) - found
    return sorted(found)


def _imports_of(module: str) -> Iterator[str]:
    """The modules of normlab's that a module imports as a whole, or imports something from."""
    for node in ast.walk(ast.parse(_source(module))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == OWN_PACKAGE:
            is_whole = _is_package(node.module)
            yield from [f"{node.module}.{alias.name}" for alias in node.names] if is_whole else [node.module]


def _relative(module: str) -> str:
    """The source, its imports of normlab's relative to one folder."""

    def shortened(found: re.Match[str]) -> str:
        return "from . import" if _is_package(found[1]) else f"from .{_short(found[1])} import"

    return re.sub(rf"^from ({OWN_PACKAGE}[\w.]*) import", shortened, _source(module), flags=re.MULTILINE)


def _parts(targets: Iterable[str], modules: Iterable[str]) -> str:
    """The module that lists what the configuration may name.

    transformers brings along a module that something is imported from, and none that is imported as a whole, as the
    stand-ins may be: so something is imported from those.
    """
    of_targets = {target: target.rpartition(".") for target in targets}
    lines = [
        '"""The parts that config.json may name."""\n',
        "from torch import nn\n",
        *(f"from .{_short(module)} import {name}" for module, _, name in of_targets.values()),
        *(f"from .{_short(module)} import __doc__ as _" for module in modules if module in STANDS_IN),
        f'\nPARTS = {{\n    "{IDENTITY}": nn.Identity,',
        *(f'    "{target}": {name},' for target, (_, _, name) in of_targets.items()),
        "}\n",
    ]
    return "\n".join(lines)


def _is_package(module: str) -> bool:
    return _path(module).name == "__init__.py"


def _short(module: str) -> str:
    return module.rpartition(".")[2]


def _source(module: str) -> str:
    return _path(STANDS_IN.get(module, module)).read_text(encoding="utf-8")


def _path(module: str) -> Path:
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    return Path(spec.origin)
