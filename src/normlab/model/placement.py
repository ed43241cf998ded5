"""Where norms stand: y = output(x + branch(f(input(x)))), a final norm before the head, one on the embedding."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from normlab.model.norms import NormFactory

Slot = Literal["input", "branch", "output", "final", "embedding"]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The norm slots that are filled; an empty slot is the identity.  The shipped choices cite their sources."""

    slots: Sequence[Slot]

    def norm(self, slot: Slot, norm: NormFactory, width: int) -> nn.Module:
        """A new norm for the slot if it is filled, else the identity."""
        return norm(width) if slot in self.slots else nn.Identity()
