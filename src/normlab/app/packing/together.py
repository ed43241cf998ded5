"""Runs that go on in turns, step by step, so that their passes can be one.

Each run is ordinary code in a greenlet of its own: a stack that is left where the run needs its gradients, and gone on
with once every other run has come as far. There is one thread, and nothing depends on time.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from greenlet import GreenletExit, getcurrent, greenlet
from hydra.core.hydra_config import HydraConfig
from torch import Tensor

from normlab.app.announce import announce
from normlab.app.build import Experiment
from normlab.app.interrupts import StopRequest
from normlab.app.packing.company import Alone, keep_company
from normlab.train.backpropagation import Backpropagation, Batch
from normlab.train.pack import Pack

Job = Callable[[], Any]
LARGEST_IDLE_FRACTION = 0.5


class PackedPasses(Backpropagation):
    """The passes of one run; the one that trains is made together with the other runs', or alone where they cannot."""

    def __init__(self, alone: Backpropagation, meet: Callable[[Batch], Tensor | None]):
        super().__init__(alone.model, alone.loss, precision=alone.precision, compile=alone.hides_model)
        self.hides_model = True
        self._alone = alone
        self._meet = meet

    def __call__(self, batch: Batch) -> Tensor:
        cross_entropy = self._meet(batch)
        return self._alone(batch) if cross_entropy is None else cross_entropy


@dataclass
class Member:
    """One run of a pack: where it stands, and what it waits for."""

    stack: greenlet
    experiment: Experiment | None = None
    batch: Batch | None = None
    result: Any = None


@dataclass
class Together:
    """The company of the runs in a pack. ``stop`` asks all of them at once."""

    stop: StopRequest = field(default_factory=StopRequest)
    members: list[Member] = field(default_factory=list)
    packed: list[Member] = field(default_factory=list)
    pack: Pack | None = None
    is_apart: bool = False

    def stop_request(self) -> StopRequest:
        return self.stop

    def passes_of(self, experiment: Experiment) -> Backpropagation:
        """Called by a run that is ready for its first step; waits until all are."""
        member = next(member for member in self.members if member.stack is getcurrent())
        member.experiment = experiment
        self._wait(None)
        return PackedPasses(Alone().passes_of(experiment), self._wait)

    def _wait(self, batch: Batch | None) -> Tensor | None:
        """Let the others come as far; what Hydra knows of the current job is put back."""
        hydra_config = HydraConfig.instance().cfg
        answer = getcurrent().parent.switch(batch)  # type: ignore[union-attr]
        HydraConfig.instance().cfg = hydra_config
        return answer

    def run(self, jobs: Sequence[Job], has_room: Callable[[Experiment, int], bool]) -> list[Any]:
        """What the first of the jobs return: as many as ``has_room``, given one and how many there are, lets in."""
        hydra_config = HydraConfig.instance().cfg
        try:
            with self.stop.listening():
                self._begin(jobs, has_room)
                self._go_on()
        except KeyboardInterrupt:
            self._end_all_with(KeyboardInterrupt)
        finally:
            self._end_all_with(GreenletExit)
            HydraConfig.instance().cfg = hydra_config
        return [member.result for member in self.members]

    def _end_all_with(self, exception: type[BaseException]) -> None:
        """Raise it in every run where that waits; a run may still write down how it ended."""
        for member in self._live():
            with suppress(exception):
                member.result = member.stack.throw(exception)

    def _begin(self, jobs: Sequence[Job], has_room: Callable[[Experiment, int], bool]) -> None:
        """Bring every run to its first step; those that end before it have ended."""
        for job in jobs:
            ready = [member.experiment for member in self.members if member.experiment is not None]
            if self.stop.signal_number is not None or (ready and not has_room(ready[0], len(ready))):
                break
            member = Member(greenlet(job))
            member.stack.gr_context = copy_context()
            member.stack.gr_context.run(keep_company, self)
            self.members.append(member)
            self._resume(member, None)

    def _go_on(self) -> None:
        """Step by step, until all have ended."""
        self.packed = self._live()
        for member in self.packed:
            self._resume(member, None)
        while live := self._live():
            cross_entropies = self._joint_pass(live)
            for member, cross_entropy in zip(live, cross_entropies, strict=True):
                self._resume(member, cross_entropy)

    def _live(self) -> list[Member]:
        return [member for member in self.members if member.stack]

    def _resume(self, member: Member, answer: Tensor | None) -> None:
        """Until the run waits again, with the batch of its next step, or has ended."""
        told = member.stack.switch() if not member.stack else member.stack.switch(answer)
        if member.stack:
            member.batch = told
        else:
            member.result = told

    def _joint_pass(self, live: list[Member]) -> list[Tensor | None]:
        """The cross-entropy of each; None for all where they have to make their passes alone."""
        if self.is_apart or len(live) == 1:
            return [None] * len(live)
        try:
            self._shrink(live)
            assert self.pack is not None
            cross_entropy_R = self.pack([member.batch for member in self.packed if member.batch is not None])
        except Exception as error:  # a part of a user's own may be such that it cannot be computed side by side
            self.is_apart = True
            reason = next(iter(str(error).splitlines()), "")
            announce(f"note: these runs train one by one, not packed ({type(error).__name__}: {reason}).")
            return [None] * len(live)
        return [cross_entropy_R[self.packed.index(member)] for member in live]

    def _shrink(self, live: list[Member]) -> None:
        """Make the pack; anew once many of its rows belong to runs that have ended."""
        if self.pack is not None and len(live) > LARGEST_IDLE_FRACTION * len(self.packed):
            return
        self.packed, before = live, self.packed
        if self.pack is not None:
            self.pack = self.pack.of([before.index(member) for member in live])
            return
        passes = Alone().passes_of(_ready(live[0]))
        models = [_ready(member).model for member in live]
        self.pack = Pack(models, passes.loss, precision=passes.precision, compile=passes.hides_model)


def _ready(member: Member) -> Experiment:
    assert member.experiment is not None
    return member.experiment
