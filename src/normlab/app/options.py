"""The config groups and their options, each with the comment that its YAML begins with."""

from pathlib import Path

CONFIG_FOLDER = Path(__file__).resolve().parents[3] / "conf"


def group_descriptions() -> dict[str, dict[str, str]]:
    """For every group the description of every option, both in alphabetical order."""
    groups: dict[str, dict[str, str]] = {}
    for path in sorted(CONFIG_FOLDER.glob("*/**/*.yaml")):
        group = path.parent.relative_to(CONFIG_FOLDER).as_posix()
        if not group.startswith("hydra") and not path.name.startswith("_"):
            groups.setdefault(group, {})[path.stem] = _first_comment(path)
    return dict(sorted(groups.items()))


def help_text() -> str:
    """All options, one a line, for ``--help``."""
    lines = []
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


def _first_comment(path: Path) -> str:
    comments = [line for line in path.read_text().splitlines() if line.startswith("# ") and "@package" not in line]
    return comments[0].removeprefix("# ")
