"""The config groups and their options, each with the comment that its YAML begins with."""

from pathlib import Path

from normlab.app.option_file import OptionFile

CONFIG_FOLDER = Path(__file__).resolve().parents[3] / "conf"


def group_descriptions() -> dict[str, dict[str, str]]:
    """For every group the description of every option, both in alphabetical order."""
    groups: dict[str, dict[str, str]] = {}
    for path in sorted(CONFIG_FOLDER.glob("*/**/*.yaml")):
        group = path.parent.relative_to(CONFIG_FOLDER).as_posix()
        if not group.startswith("hydra") and not path.name.startswith("_"):
            groups.setdefault(group, {})[path.stem] = _first_comment(path)
    return dict(sorted(groups.items()))


def help_text(task: str) -> str:
    """The keys of the chosen task, then all options, one a line, for ``--help``."""
    lines = [*_keys_of_task(task), "Groups and their options:", ""]
    for group, options in group_descriptions().items():
        lines.append(group)
        lines += [f"  {option:<18} {description}" for option, description in options.items()]
    return "\n".join(lines)


def markdown_table() -> str:
    """All options as the table in the README."""
    rows = [
        f"| `{group}` | `{option}` | {description} |"
        for group, options in group_descriptions().items()
        for option, description in options.items()
    ]
    return "\n".join(["| group | option | what it is |", "|---|---|---|", *rows])


def _keys_of_task(task: str) -> list[str]:
    """What ``task=…`` takes at the top, a line a key; nothing where it takes nothing."""
    path = CONFIG_FOLDER / "task" / f"{task}.yaml"
    if not path.is_file():
        return []
    keys = [key for key in OptionFile(path, CONFIG_FOLDER).keys if "." not in key.name and not key.name.startswith("_")]
    shown = [(f"{key.name}={key.value.replace('???', '…')}", key.remark) for key in keys]
    lines = [f"  {typed:<18} {remark}".rstrip() for typed, remark in shown]
    return [f"task={task}: {_first_comment(path)}", *lines, ""] if lines else []


def _first_comment(path: Path) -> str:
    comments = [line for line in path.read_text().splitlines() if line.startswith("# ") and "@package" not in line]
    return comments[0].removeprefix("# ")
