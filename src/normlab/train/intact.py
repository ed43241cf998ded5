"""Which checkpoint a path means, and which of a run's checkpoints can be gone on from when some are damaged."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from normlab.core.errors import CheckpointError
from normlab.core.run_folder import RunFolder
from normlab.train.checkpoint import MANIFEST, verify_checkpoint
from normlab.train.saved_state import FOLDER_PREFIX, run_state_from
from normlab.train.state import RunState

LAST, BEST, LAST_FINITE = "last", "best", "last_finite"
LINKS = (LAST, BEST, LAST_FINITE)

Announce = Callable[[str], None]


def step_of(path: Path) -> int | None:
    """N for a folder called step_N that is no link, else None."""
    digits = path.name.removeprefix(FOLDER_PREFIX)
    is_named = path.name.startswith(FOLDER_PREFIX) and digits.isascii() and digits.isdigit() and len(digits) < 16
    return int(digits) if is_named and path.is_dir() and not path.is_symlink() else None


def checkpoints_by_step(folder: Path) -> dict[int, Path]:
    """The checkpoints in a folder, whether damaged or not, the newest first."""
    found = {step: path for path in folder.glob(f"{FOLDER_PREFIX}*") if (step := step_of(path)) is not None}
    return dict(sorted(found.items(), reverse=True))


def target_of(link: Path) -> Path | None:
    """The checkpoint in the same folder that a link points to; None for a link to anything else, or none."""
    if not link.is_symlink():
        return None
    target = link.parent / link.readlink()
    return target if target.parent == link.parent and step_of(target) is not None else None


class Intact(NamedTuple):
    """A checkpoint of a run that has been verified, and the state in it."""

    path: Path
    state: RunState


def newest_intact(folder: Path, announce: Announce) -> Intact | None:
    """The checkpoint to go on from: the last one, or where it is damaged, which is said, the newest before it.

    None where the folder has none at all, CheckpointError where it has none that is intact.
    """
    refused: list[str] = []
    for path in _from_last_to_first(folder):
        try:
            found = Intact(path, run_state_from(verify_checkpoint(path), path))
        except CheckpointError as error:
            refused.append(str(error))
            continue
        for line in refused:
            announce(f"note: {line.partition(' Choose another')[0]} Falling back to {path.name}.")
        return found
    if refused:
        raise CheckpointError(
            f"No checkpoint in {folder} is intact, so that there is nothing to go on from. The newest: {refused[0]}"
        )
    return None


def find_checkpoint(path: Path, announce: Announce) -> Path:
    """The checkpoint that a path means: itself, or a run folder's newest intact one."""
    if (path / MANIFEST).is_file():
        return path.resolve()
    found = newest_intact(RunFolder(path).checkpoints, announce)
    if found is not None:
        return found.path.resolve()
    if RunFolder(path).metrics.is_file():
        raise CheckpointError(
            f"checkpoint must name a run that has saved one; '{path}' ended before its first, and a step that is not "
            "finite never saves any. Take a run that lived longer, or type trainer.checkpoint_every=1 for the next."
        )
    raise CheckpointError(
        f"checkpoint must name a run folder that has saved a checkpoint, or a checkpoint itself; got '{path}'. "
        f"Type checkpoint=outputs/<date>/<time>, as printed at the end of a run."
    )


def run_of_checkpoint(checkpoint: Path) -> Path:
    """The run folder that a checkpoint, as :func:`find_checkpoint` gave it, belongs to."""
    return checkpoint.parent.parent


def _from_last_to_first(folder: Path) -> Iterator[Path]:
    """The target of ``last``, then older ones; newer ones, which no link has come to, at the end."""
    checkpoints = checkpoints_by_step(folder)
    last = target_of(folder / LAST)
    newest = max(checkpoints, default=0) if last is None else step_of(last) or 0
    yield from (path for step, path in checkpoints.items() if step <= newest)
    yield from (path for step, path in checkpoints.items() if step > newest)
