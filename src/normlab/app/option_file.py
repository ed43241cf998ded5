"""One YAML of ``conf/`` as its author wrote it: comments, and each key with the text of its value and its remark."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import yaml

REMARK = re.compile(r"[ \t]*#[ \t]*(.*)")


@dataclass(frozen=True)
class Key:
    """A key with dots for what is nested, its value as written, and the comment behind it."""

    name: str
    value: str
    remark: str


@dataclass(frozen=True)
class OptionFile:
    """The file at ``path``, below the folder of all groups, ``root``."""

    path: Path
    root: Path

    @property
    def group(self) -> str:
        """The config group, ``model/norm``."""
        return self.path.parent.relative_to(self.root).as_posix()

    @property
    def name(self) -> str:
        """The option's name."""
        return self.path.stem

    @cached_property
    def comments(self) -> list[str]:
        """The comment lines that the file begins with; the first is the option's description."""
        lines = [line for line in self.text.splitlines() if not line.startswith("# @package")]
        num_comments = next((index for index, line in enumerate(lines) if not line.startswith("#")), len(lines))
        return [line.removeprefix("#").removeprefix(" ") for line in lines[:num_comments]]

    @cached_property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @property
    def is_global(self) -> bool:
        """Whether its keys stand at the top, or in any group."""
        return "# @package _global_" in self.text

    @cached_property
    def keys(self) -> list[Key]:
        """All keys that hold a value, those of the files that it builds on first; none of Hydra's."""
        own = {key.name: key for key in self._own_keys()}
        inherited = {key.name: key for base in self.bases for key in base.keys}
        return list((inherited | own).values())

    @cached_property
    def bases(self) -> list["OptionFile"]:
        """The files of the same group that its defaults list names."""
        entries = (yaml.safe_load(self.text) or {}).get("defaults", [])
        paths = [self.path.with_name(f"{entry}.yaml") for entry in entries if isinstance(entry, str)]
        return [OptionFile(path, self.root) for path in paths if path.is_file()]

    @cached_property
    def choices(self) -> dict[str, str]:
        """The options of other groups that it chooses, by what one types before the =."""
        entries = (yaml.safe_load(self.text) or {}).get("defaults", [])
        pairs = [pair for entry in entries if isinstance(entry, dict) for pair in entry.items()]
        return {key.removeprefix("override ").removeprefix("/"): str(value) for key, value in pairs}

    def value_of(self, name: str) -> str | None:
        """The text of a key's value."""
        return next((key.value for key in self.keys if key.name == name), None)

    def _own_keys(self) -> Iterator[Key]:
        root = yaml.compose(self.text)
        if isinstance(root, yaml.MappingNode):
            yield from self._keys_in(root, "")

    def _keys_in(self, mapping: yaml.MappingNode, prefix: str) -> Iterator[Key]:
        for key, node in mapping.value:
            name = f"{prefix}{key.value}"
            if name in ("defaults", "hydra", "study"):
                continue
            if isinstance(node, yaml.MappingNode) and node.value and not node.flow_style:
                yield from self._keys_in(node, f"{name}.")
            else:
                end = node.end_mark.index
                remark = REMARK.match(self.text, end)
                yield Key(name, self.text[node.start_mark.index : end], remark[1].strip() if remark else "")
