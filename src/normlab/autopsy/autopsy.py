"""All that is known of a run's death."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from normlab.autopsy.advice import Advice
from normlab.autopsy.finding import FirstNonfinite
from normlab.autopsy.story import Story
from normlab.core.records import Outcome


@dataclass(frozen=True, kw_only=True)
class Autopsy:
    """How a run ended and at which step, the first non-finite value, the story before it, and what to try.

    ``what`` says what the run itself saw of its end, as "the gradient norm is nan".
    ``finding`` is None for a run that diverged, and where the replayed step stayed finite. ``replayed`` says what was
    replayed and from what, None where no replay was made; ``statistics`` where those of the last steps came from.
    """

    outcome: Outcome
    step: int
    what: str
    overrides: Sequence[str]
    finding: FirstNonfinite | None
    story: Story
    advice: Advice
    replayed: str | None
    statistics: str

    def as_dict(self) -> dict[str, Any]:
        """Mappings, sequences, text and numbers, for ``encode_json``."""
        return asdict(self)
