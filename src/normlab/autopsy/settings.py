"""The knobs of an autopsy (config group ``autopsy``)."""

from dataclasses import dataclass

from normlab.core.types import Count, CountOrZero


@dataclass(frozen=True, kw_only=True)
class AutopsySettings:
    """How much a death may cost, and what is kept for it.

    A copy of weights and optimizer state is renewed in memory every ``copy_every`` steps. After a death the steps since
    that copy, or since a checkpoint, are recomputed with every statistic read: from the oldest of them that is at most
    ``recompute_steps`` old, else from the newest. ``keep_bundle`` leaves in the run folder what ``task=autopsy`` needs.
    """

    copy_every: Count
    recompute_steps: CountOrZero
    keep_bundle: bool
