"""Which checkpoints of a run are kept, what the links last, best and last_finite point to, and the way back."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn, optim

from normlab.core.errors import CheckpointError
from normlab.core.files import point_to
from normlab.core.records import Outcome
from normlab.core.strict_json import read_strict_json
from normlab.model.spread_weights import is_spread
from normlab.train.checkpoint import STATE, load_checkpoint, save_checkpoint
from normlab.train.distributed.saving import write_checkpoint_together
from normlab.train.distributed.world import ALONE, World
from normlab.train.finite import are_finite
from normlab.train.intact import BEST, LAST, LAST_FINITE, LINKS, checkpoints_by_step, target_of
from normlab.train.saved_state import FOLDER_PREFIX, read_run_state
from normlab.train.tensors import optimizer_tensors_of, weights_of


class CheckpointKeeper:
    """Saves checkpoints in one folder and deletes those that are needed no more. None that it saves is not finite.

    Kept are those that a link points to; the one before the last, to fall back to; and, to go back ``reach_steps`` at
    any time, the newest that is so old, with the oldest after it, which will be the next to be.
    A checkpoint of an interruption is none that the same run without it would have: it is kept only while it is the
    last, and never gone back to, so that the interruption changes nothing. Of several processes all have to make the
    same calls, but rank 0 alone writes: whole tensors, whatever is spread over devices. All of them read.
    """

    def __init__(
        self,
        folder: Path,
        model: nn.Module,
        optimizer: optim.Optimizer,
        *,
        reach_steps: int = 0,
        world: World = ALONE,
    ):
        self.folder = folder
        self.world = world
        self.model = model
        self.optimizer = optimizer
        self.reach_steps = reach_steps

    def save(self, step: int, state: Mapping[str, Any], *, is_best: bool) -> bool:
        """Write step_N, then move the links: ``best`` if told, ``last_finite``, and at the end ``last``.

        Returns False, with nothing written, where a weight or a part of the optimizer's state is not finite.
        """
        if not self._is_finite():
            return False
        path = self.folder / f"{FOLDER_PREFIX}{step}"
        is_of_another_course = not is_best and target_of(self.folder / BEST) == path  # before the run went back
        if is_of_another_course and self.world.is_main:
            (self.folder / BEST).unlink()
        self._write(path, state)
        if self.world.is_main:
            self._link(path, is_best)
            self._drop_all_but(self._needed_at(step))
        return True

    def _write(self, path: Path, state: Mapping[str, Any]) -> None:
        weights, optimizer_tensors = weights_of(self.model), optimizer_tensors_of(self.model, self.optimizer)
        if any(map(is_spread, weights.values())):
            write_checkpoint_together(path, weights, optimizer_tensors, state, self.world)
        elif self.world.is_main:
            save_checkpoint(path, self.model, self.optimizer, state)

    def resume_from(self, checkpoint: Path, *, is_best: bool) -> None:
        """Make the folder what it was when the checkpoint, one of it, had just been saved."""
        if not self.world.is_main:
            return
        self._link(self.folder / checkpoint.name, is_best)
        self._drop_all_but(self._needed_at(int(checkpoint.name.removeprefix(FOLDER_PREFIX))))

    def restore(self, before_step: int) -> dict[str, Any]:
        """Fill weights and optimizer from the newest intact checkpoint of at most ``before_step``; return its state.

        Later ones are dropped, but for the best. Raises CheckpointError, with nothing changed, where there is none.
        """
        for step in self.world.from_main(lambda: self._regular_until(before_step)):
            path = self.folder / f"{FOLDER_PREFIX}{step}"
            state = self._loaded(path)
            if self.world.any(state is None):
                continue
            assert state is not None
            if self.world.is_main:
                self._link(path, is_best=False)
                self._drop_all_but({found for found in checkpoints_by_step(self.folder) if found <= step})
            return state
        raise CheckpointError(f"No intact checkpoint in {self.folder} is of step {before_step} or before.")

    def _regular_until(self, last_step: int) -> list[int]:
        """The steps of the checkpoints that the run without an interruption would have, the newest first."""
        found = checkpoints_by_step(self.folder).items()
        return [step for step, path in found if step <= last_step and not _is_of_interruption(path)]

    def _loaded(self, path: Path) -> dict[str, Any] | None:
        """The state in a checkpoint, once it has filled weights and optimizer; None, and nothing filled, if damaged."""
        try:
            read_run_state(path)
            return load_checkpoint(path, self.model, self.optimizer)
        except CheckpointError:
            return None

    def _link(self, path: Path, is_best: bool) -> None:
        for link in (*([BEST] if is_best else []), LAST_FINITE, LAST):
            point_to(self.folder / link, path.name)

    def _needed_at(self, step: int) -> set[int]:
        regular = [found for found, path in checkpoints_by_step(self.folder).items() if not _is_of_interruption(path)]
        regular = sorted(found for found in regular if found <= step)
        far = [found for found in regular if found <= step - self.reach_steps][-1:]
        next_far = [found for found in regular if far and found > far[0]][:1] if far else regular[:1]
        return {step, *far, *next_far, *[found for found in regular if found < step][-1:]}

    def _drop_all_but(self, steps: set[int]) -> None:
        linked = [target_of(self.folder / link) for link in LINKS]
        for step, path in checkpoints_by_step(self.folder).items():
            if step not in steps and path not in linked:
                shutil.rmtree(path)

    def _is_finite(self) -> bool:
        tensors = [*weights_of(self.model).values(), *optimizer_tensors_of(self.model, self.optimizer).values()]
        return not self.world.any(not are_finite(tensors))


def _is_of_interruption(path: Path) -> bool:
    """True where the saved state says so; one that cannot be read is none."""
    try:
        return read_strict_json(path / STATE)["outcome"] == Outcome.INTERRUPTED
    except (OSError, ValueError, KeyError, TypeError):
        return False
