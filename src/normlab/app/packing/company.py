"""Whether a run trains by itself or in a pack: what it asks its surroundings for."""

from contextvars import ContextVar
from typing import Protocol

from normlab.app.build import Experiment
from normlab.app.interrupts import StopRequest
from normlab.train.backpropagation import Backpropagation
from normlab.train.hardware import autocast


class Company(Protocol):
    """Those that a run shares its process with."""

    def stop_request(self) -> StopRequest:
        """What asks the run to stop."""
        ...

    def passes_of(self, experiment: Experiment) -> Backpropagation:
        """The passes through the run's model."""
        ...


class Alone:
    """A run by itself."""

    def stop_request(self) -> StopRequest:
        return StopRequest()

    def passes_of(self, experiment: Experiment) -> Backpropagation:
        settings = experiment.settings
        precision = autocast(experiment.device, settings.precision)
        return Backpropagation(
            experiment.model,
            experiment.loss,
            precision=precision,
            compile=settings.compile,
            cuda_graphs=settings.cuda_graphs,
        )


_company: ContextVar[Company] = ContextVar("company", default=Alone())  # noqa: B039, as it has no state


def company() -> Company:
    """That of the run which is under way in this context; a greenlet has a context of its own."""
    return _company.get()


def keep_company(others: Company) -> None:
    """From now on in this context."""
    _company.set(others)
