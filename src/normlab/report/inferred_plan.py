"""The plan of a sweep that wrote none down, told from its runs."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from normlab.core.errors import UserError
from normlab.core.run_folder import RunFolder
from normlab.report.read_run import planned_run
from normlab.report.results import RunResult, SweepResult

NO_CHOICE = ("optimizer.lr", "seed", "resume", "cache", "on_error")
NO_CHOICE_GROUPS = ("hydra", "task", "logger")
UNSAID = "default"
MAX_DEPTH = 4


def inferred_plan(folder: Path, remark: Callable[[str], None]) -> SweepResult:
    """The sweep of all run folders below: the overrides in which they differ are its choices.

    A value that one run names and another leaves to its configuration is read there, or ``default`` where the
    configuration does not say it (a group's option). Raises UserError where there is no run.
    """
    folders = list(_run_folders(folder, MAX_DEPTH))
    if not folders:
        raise UserError(
            f"sweep must name a folder with runs in it; got '{folder}'. Type sweep=multirun/<date>/<time>, as printed "
            "at the end of a sweep."
        )
    said = [overrides_of(path) for path in folders]
    configs = [_config(path, remark) for path in folders]
    keys = [key for key in dict.fromkeys(key for overrides in said for key in overrides) if _is_choice(key)]
    choices = [
        {key: overrides.get(key, _configured(config, key, UNSAID)) for key in keys}
        for overrides, config in zip(said, configs, strict=True)
    ]
    varied = {key: list(dict.fromkeys(chosen[key] for chosen in choices)) for key in keys}
    varied = {key: values for key, values in varied.items() if len(values) > 1}
    jobs = [
        _job(folder, path, {key: chosen[key] for key in varied}, config)
        for path, chosen, config in zip(folders, choices, configs, strict=True)
    ]
    return SweepResult(
        folder=folder, command="", experiment=None, question=None, baseline=None, claims=[], varied=varied, runs=[],
        num_planned=len(jobs), not_begun=jobs,
    )  # fmt: skip


def overrides_of(folder: Path) -> dict[str, str]:
    """The overrides that a run recorded, by key; none where they cannot be read."""
    loaded = _yaml(folder / ".hydra" / "overrides.yaml")
    lines = [line for line in loaded if isinstance(line, str)] if isinstance(loaded, Sequence) else []
    pairs = [line.lstrip("+").partition("=") for line in lines]
    return {key: value for key, equals, value in pairs if equals}


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    """In the order of their names; no run lies within another."""
    run = RunFolder(folder)
    if run.metrics.is_file() or run.summary.is_file():
        yield folder
    elif depth > 0 and folder.is_dir():
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_dir() and not entry.name.startswith("."):
                yield from _run_folders(Path(entry.path), depth - 1)


def _job(sweep: Path, folder: Path, choices: Mapping[str, str], config: Mapping[str, Any]) -> RunResult:
    lr, seed, steps = (_number(_configured(config, key, "")) for key in ("optimizer.lr", "seed", "trainer.steps"))
    return planned_run(
        name=folder.name if folder == sweep else folder.relative_to(sweep).as_posix(),
        folder=folder,
        choices=choices,
        lr=lr,
        seed=0 if seed is None else int(seed),
        fingerprint=None,
        planned_steps=0 if steps is None else int(steps),
        facts={},
    )


def _config(folder: Path, remark: Callable[[str], None]) -> Mapping[str, Any]:
    config = _yaml(RunFolder(folder).config)
    if isinstance(config, Mapping):
        return config
    remark(f"{folder.name}: its config.yaml cannot be read, so its rate and seed are unknown.")
    return {}


def _yaml(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return None


def _configured(config: Mapping[str, Any], key: str, otherwise: str) -> str:
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return otherwise
        node = node[part]
    return otherwise if isinstance(node, Mapping) else str(node)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _is_choice(key: str) -> bool:
    return key not in NO_CHOICE and key.replace("/", ".").partition(".")[0] not in NO_CHOICE_GROUPS
