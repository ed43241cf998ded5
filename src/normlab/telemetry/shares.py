"""Statistics of a step that several devices share, or that is taken in parts: as if one device had taken it at once.

Shapes: ``R`` devices, ``P`` parts, ``N`` statistics.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

MAXIMA = ("activation_absmax", "attention_logit_max")
ROOTS = ("activation_rms", "gradient_rms")
"""Of mean squares. All other statistics of a pass are means."""
OF_OBJECTIVE = "gradient_rms"
NORMS = ("grad_norm", "weight_norm", "update_norm")


@dataclass(frozen=True, kw_only=True)
class Shares:
    """In how many passes a device takes its share of a step, and how it learns what the others have read.

    ``gather`` takes ``N`` numbers to ``RN``, those of all devices. ``has_spread_weights``: each has some of them.
    """

    num_passes: int
    gather: Callable[[Tensor], Tensor]
    has_spread_weights: bool
    num_devices: int

    @property
    def are_several(self) -> bool:
        """Whether there is anything to join."""
        return self.num_passes > 1 or self.num_devices > 1

    def joined(
        self, values: Tensor, tags: Sequence[str], num_sequences: Sequence[int], tags_of_weights: Sequence[str]
    ) -> Tensor:
        """All statistics, from those of each pass and then those of the weights, as this device has read them."""
        gathered = self.gather(values)
        num_passes = len(num_sequences)
        values_RPN = gathered[:, : num_passes * len(tags)].reshape(len(gathered), num_passes, len(tags))
        weights_P = torch.tensor(num_sequences, dtype=values.dtype)
        of_weights = gathered[:, num_passes * len(tags) :]
        norms = joined_weights(tags_of_weights, of_weights, are_spread=self.has_spread_weights)
        return torch.cat([joined_passes(tags, values_RPN, weights_P), norms]) if tags else norms


ALONE = Shares(num_passes=1, gather=lambda values_N: values_N[None], has_spread_weights=False, num_devices=1)


def joined_passes(tags: Sequence[str], values_RPN: Tensor, weights_P: Tensor) -> Tensor:
    """The statistics of all passes as one, ``N``.

    A part of the batch has its share of the tokens as weight, and its objective that share of the whole one; a device
    has one share of R in both.
    """
    num_devices = len(values_RPN)
    weights_RP1 = (weights_P / weights_P.sum() / num_devices).expand(num_devices, -1)[..., None]
    largest_N = values_RPN.amax((0, 1))
    mean_N = (weights_RP1 * values_RPN).sum((0, 1))
    root_N = (weights_RP1 * values_RPN.square()).sum((0, 1)).sqrt()
    kinds = [tag.partition("/")[0] for tag in tags]
    is_maximum = torch.tensor([kind in MAXIMA for kind in kinds])
    is_root = torch.tensor([kind in ROOTS for kind in kinds])
    scale_N = torch.tensor([1 / num_devices if kind == OF_OBJECTIVE else 1.0 for kind in kinds], dtype=root_N.dtype)
    return torch.where(is_maximum, largest_N, torch.where(is_root, scale_N * root_N, mean_N))


def joined_weights(tags: Sequence[str], values_RN: Tensor, *, are_spread: bool) -> Tensor:
    """The statistics of all devices' weights as one, ``N``: where each has some of them, norms over all."""
    if not are_spread or not tags:
        return values_RN[0]
    norms = dict(zip(tags, values_RN.square().sum(0).sqrt(), strict=True))
    for tag in tags:
        kind, _, group = tag.partition("/")
        if kind == "update_ratio":
            norms[tag] = norms[f"update_norm/{group}"] / norms[f"weight_norm/{group}"]
    return torch.stack(list(norms.values()))
