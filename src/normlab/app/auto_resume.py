"""resume=auto: the same command line again goes on with the run that it started before, or starts the first one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from normlab.app.announce import announce, shown_path
from normlab.app.canonical import fingerprint_of
from normlab.app.recorded import DAMAGE, recorded_config
from normlab.app.resume import with_recorded_overrides
from normlab.core.errors import CheckpointError
from normlab.core.run_folder import RunFolder


def with_found_run(arguments: Sequence[str], config: DictConfig, admitted: Sequence[str]) -> list[str]:
    """The arguments, with ``resume=auto`` decided, which is said.

    The newest run of the same fingerprint decides: where it has a result there is nothing to do, as when a scheduler
    starts a job again that had ended; else it is gone on with; where there is none, a new one begins. Runs are looked
    for in ``hydra.run.dir`` where the command line gives it, else below the folder of all runs.
    """
    wanted = Path(config.hydra.run.dir)
    is_given = any(override.startswith("hydra.run.dir=") for override in config.hydra.overrides.hydra)
    candidates = [wanted] if is_given else _newest_first(wanted.parent.parent)
    fingerprint = fingerprint_of(config)
    folders = map(RunFolder, candidates)
    found = next((folder for folder in folders if _fingerprint_in(folder, admitted) == fingerprint), None)
    if found is None:
        place = wanted if is_given else wanted.parent.parent
        announce(f"resume=auto: {shown_path(place)} has no run of this experiment yet; this is the first.")
        return [*arguments, "resume=null"]
    if found.result() is not None:
        announce(f"resume=auto: {shown_path(found.path)} has a result. To train again leave out resume=auto.")
    else:
        announce(f"resume=auto: going on with {shown_path(found.path)}.")
    return with_recorded_overrides([*arguments, f"resume='{found.path}'"])


def _newest_first(root: Path) -> Iterator[Path]:
    """The folders <date>/<time> below ``root``, by their names."""
    yield from sorted((path for path in root.glob("*/*") if path.is_dir()), reverse=True)


def _fingerprint_in(folder: RunFolder, admitted: Sequence[str]) -> str | None:
    """The fingerprint of the run in a folder; None where there is none that could be gone on with."""
    if not folder.config.is_file():
        return None
    told = _summary_in(folder).get("fingerprint")
    if told is not None:
        return told
    try:
        return fingerprint_of(recorded_config(folder.config, admitted))
    except DAMAGE:  # also UserError: it names code that is not admitted, or data that are gone
        return None


def _summary_in(folder: RunFolder) -> dict[str, Any]:
    try:
        return folder.read_summary()
    except CheckpointError:
        return {}
