"""docs/reference.md: every group, option and key, from the YAMLs of ``conf/`` and the docstrings of what they build."""

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, get_args, get_origin, get_type_hints

from hydra import initialize_config_dir
from hydra.utils import get_object

from normlab.app.composing import Composer
from normlab.app.option_file import Key, OptionFile
from normlab.app.options import CONFIG_FOLDER
from normlab.app.schema import TopLevel, unmet_demand
from normlab.app.targets import IDENTITY

TARGET = "_target_"
REFERENCE = re.compile(r"\$\{(\w+)\}")
INTRODUCTION = """\
# Reference

Every group, option and key. Generated from the YAML files in `conf/` and the docstrings of what they build, by
`python -c "from normlab.app.reference import markdown; print(markdown())" > docs/reference.md`.

An option is chosen with slashes (`model/norm=none`), a key of it is set with dots (`model.norm.eps=1e-6`). A default
that reads `${…}` is worked out from other keys, one that reads `???` has to be given. `null` means that there is none.
What the groups are for is said in the [README](../README.md), how to add an option of your own in the
[how-tos](README.md).
"""


def markdown() -> str:
    """The whole page."""
    files = [OptionFile(path, CONFIG_FOLDER) for path in sorted(CONFIG_FOLDER.glob("*/**/*.yaml"))]
    shown = [file for file in files if not file.name.startswith("_") and not file.group.startswith("hydra/help")]
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3", job_name="normlab"):
        chosen = Composer("config")([]).hydra.runtime.choices
    shown.sort(key=lambda file: (file.group, file.name))
    groups = {group: list(options) for group, options in groupby(shown, lambda file: file.group)}
    contents = " · ".join(f"[{group}](#{group.replace('/', '')})" for group in groups)
    parts = [INTRODUCTION, contents, "## At the top", _top_level()]
    for group, options in groups.items():
        parts += _group(group, options, chosen.get(group))
    return "\n\n".join(part.strip() for part in parts if part)


def _top_level() -> str:
    annotations = get_type_hints(TopLevel, include_extras=True)
    root = OptionFile(CONFIG_FOLDER / "config.yaml", CONFIG_FOLDER)
    keys = [key for key in root.keys if key.name in annotations]
    return "These belong to no group.\n\n" + _key_table(keys, annotations, root)


def _group(group: str, options: list[OptionFile], default: str | None) -> Iterator[str]:
    yield f"## `{group}`"
    if default is not None and len(options) > 1:
        yield f"Default: `{group}={default}`."
    targets = {option.value_of(TARGET) for option in options}
    is_uniform = len(options) > 1 and len(targets) == 1 and None not in targets and not options[0].is_global
    if is_uniform and not any(_public_bases(option) for option in options):
        yield from _side_by_side(options)
    else:
        described: dict[str, str] = {}
        for option in options:
            yield f"### `{group}={option.name}`"
            yield _told(option.comments[0])
            yield from _experiment(option) if group == "experiment" else _option(option, described)


def _side_by_side(options: list[OptionFile]) -> Iterator[str]:
    """Options that build the same thing of other values: one table, a column for each."""
    yield "\n".join(f"- `{option.name}`: {_escaped(option.comments[0])}" for option in options)
    yield from _docstrings(options[0], {})
    annotations = _annotations(options[0].keys)
    remarks = {key.name: key.remark for option in options for key in option.keys if key.remark}
    rows = [
        [
            f"`{_typed(options[0], name)}`",
            *(_code(option.value_of(name) or "") for option in options),
            _demand(annotations.get(name)),
            _escaped(remarks.get(name, "")),
        ]
        for name in dict.fromkeys(key.name for option in options for key in _settable(option.keys))
    ]
    yield _table(["key", *(f"`{option.name}`" for option in options), "must be", "what it is"], rows)


def _option(option: OptionFile, described: dict[str, str]) -> Iterator[str]:
    """What the file says further, what it builds, unless that is among the ``described``, and its keys."""
    for is_code, lines in groupby(option.comments[1:], lambda line: line.startswith("  ")):
        text = "\n".join(map(str.strip, lines))
        yield f"```text\n{text}\n```" if is_code else _told(text)
    if option.is_global and option.group != "task":
        yield _sets(option)
        return
    bases = _public_bases(option)
    if bases:
        yield f"As {', '.join(f'`{base.group}={base.name}`' for base in bases)} but for:"
    else:
        yield from _docstrings(option, described)
    inherited = {(key.name, key.value) for base in bases for key in base.keys}
    keys = [key for key in _settable(option.keys) if (key.name, key.value) not in inherited]
    top = {key.name for key in keys}
    shown = [key for key in keys if not (key.name.startswith("task.") and REFERENCE.sub(r"\1", key.value) in top)]
    yield _key_table(shown, _annotations(option.keys), option)


def _docstrings(option: OptionFile, described: dict[str, str]) -> Iterator[str]:
    """Of what an option builds and of its parts, each once."""
    for key in option.keys:
        place, _, name = key.name.rpartition(".")
        if name != TARGET:
            continue
        text = _docstring(key.value)
        is_main = place in ("", "task", option.name)
        if text and key.value in described:
            yield f"The same as `{described[key.value]}`, of other values."
        elif text and is_main:
            described[key.value] = f"{option.group}={option.name}"
            yield text
        elif text:
            yield f"`{_typed(option, place)}`: {text}"


def _experiment(option: OptionFile) -> Iterator[str]:
    """What its header says, a paragraph for every word with a colon; the claims are in the file itself."""
    text = "\n".join(line.strip() for line in option.comments[1:])
    paragraphs = re.split(r"\n(?=(?:Question|Expected|Cost|Source|Note)\b)", text)
    yield "\n\n".join(_told(" ".join(paragraph.split())) for paragraph in paragraphs)
    yield f"Arms, grid and claims: [conf/experiment/{option.name}.yaml](../conf/experiment/{option.name}.yaml)."


def _sets(option: OptionFile) -> str:
    typed = [f"{key}={value}" for key, value in option.choices.items()]
    typed += [f"{key.name}={key.value}" for key in option.keys]
    return "It stands for\n\n```text\n" + "\n".join(typed) + "\n```"


def _public_bases(option: OptionFile) -> list[OptionFile]:
    return [base for base in option.bases if not base.name.startswith("_")]


def _settable(keys: Sequence[Key]) -> list[Key]:
    return [key for key in keys if not key.name.rpartition(".")[2].startswith("_")]


def _key_table(keys: Sequence[Key], annotations: Mapping[str, Any], option: OptionFile) -> str:
    rows = [
        [f"`{_typed(option, key.name)}`", _code(key.value), _demand(annotations.get(key.name)), _escaped(key.remark)]
        for key in keys
    ]
    return _table(["key", "default", "must be", "what it is"], rows)


def _typed(option: OptionFile, name: str) -> str:
    """A key as one types it."""
    at_top = option.is_global or option.group == "."
    return name if at_top else f"{option.group.replace('/', '.')}.{name}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table without the columns that have nothing in them; nothing where there are no rows."""
    if not rows:
        return ""
    columns = [
        [head, "---", *(cell.replace("|", "\\|") for cell in cells)]
        for head, *cells in zip(heads, *rows, strict=True)
        if any(cells)
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in zip(*columns, strict=True))


def _annotations(keys: Sequence[Key]) -> dict[str, Any]:
    """By key what it may be, from the signatures of the targets; what a target gets from ``${key}`` is that key's."""
    found: dict[str, Any] = {}
    for key in keys:
        if key.name.rpartition(".")[2] == TARGET:
            prefix = key.name.removesuffix(TARGET)
            found |= {f"{prefix}{name}": annotation for name, annotation in _parameters(key.value).items()}
    for key in keys:
        if key.name in found and (reference := REFERENCE.fullmatch(key.value)):
            found.setdefault(reference[1], found[key.name])
    return found


def _parameters(target: str) -> dict[str, Any]:
    built = _built(target)
    if built is None:
        return {}
    return get_type_hints(built.__init__ if inspect.isclass(built) else built, include_extras=True)


def _built(target: str) -> Any:
    """What a target names; None where its package is not installed."""
    try:
        return get_object(target)
    except ImportError:
        return None


def _demand(annotation: Any) -> str:
    """What a value must be, in the words of the error for one that is not."""
    if annotation is None or get_origin(annotation) is Mapping:
        return ""
    length = len(get_args(annotation)) if get_origin(annotation) is tuple else 1
    is_list = get_origin(annotation) in (tuple, list, Sequence)
    return unmet_demand([object()] * length if is_list else object(), annotation) or ""


def _docstring(target: str) -> str:
    """Of what is built, and of the class that a function of the same module returns."""
    built = _built(target)
    if target == IDENTITY or built is None or not inspect.getdoc(built):
        return ""
    told = [inspect.getdoc(built)]
    returned = None if inspect.isclass(built) else get_type_hints(built).get("return")
    if inspect.isclass(returned) and returned.__module__ == built.__module__:
        told.append(inspect.getdoc(returned))
    return "\n\n".join(_told(text) for text in told if text)


def _told(text: str) -> str:
    """A docstring or comment as Markdown, without what it raises; a formula cut in two paragraphs is joined."""
    paragraphs = text.replace("...\n\n... ", "").replace("``", "`").split("\n\n")
    return "\n\n".join(re.sub("  +", " ", _escaped(part)) for part in paragraphs if not part.startswith("Raises "))


def _escaped(text: str) -> str:
    """Text in which Markdown sees neither tags nor emphasis outside of code; a factor's lonely * is no emphasis."""
    parts = text.split("`")
    for index in range(0, len(parts), 2):
        parts[index] = re.sub(r"(<(?=[\w/!])|\*(?=\S)|(?<=\S)\*|\b_|_\b)", r"\\\1", parts[index])
    return "`".join(parts)


def _code(text: str) -> str:
    return f"`{text}`" if text else ""
