"""What a step of one run on N devices costs each of them: bytes kept, bytes sent, collectives waited for.

P parameters in L layers and, apart from them, embedding, final norm and head; float32, AdamW.
"""

from dataclasses import dataclass
from math import ceil
from typing import Literal

NUMBER = 4
WEIGHT, GRADIENT, MOMENTS = NUMBER, NUMBER, 2 * NUMBER
BLACK_BOX = WEIGHT + MOMENTS
"""The copy of a run as it was some steps ago, which its autopsy begins from; it lies where the model does."""
BUCKET_BYTES = 25 * 2**20
"""DistributedDataParallel sends gradients in buckets of this size, as they become ready."""
SMALL_SUMS = 3
"""The loss, whether a weight was damaged, whether a signal has come: numbers on the CPU, waited for at every step."""

Parallel = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama whose embedding and head are two matrices."""

    name: str
    num_layers: int
    width: int
    hidden_width: int
    vocab_size: int
    context_length: int

    @property
    def layer_parameters(self) -> int:
        """Of one layer: query, key, value and output, three matrices of SwiGLU, two norms."""
        return 4 * self.width**2 + 3 * self.width * self.hidden_width + 2 * self.width

    @property
    def outer_parameters(self) -> int:
        """Of embedding, head and final norm."""
        return 2 * self.vocab_size * self.width + self.width

    @property
    def num_parameters(self) -> int:
        """Of the model."""
        return self.num_layers * self.layer_parameters + self.outer_parameters

    @property
    def flop_per_token(self) -> float:
        """Forward and backward: 6 for each weight of a product, and causal attention."""
        products = self.num_parameters - self.vocab_size * self.width
        return 6.0 * products + 6.0 * self.num_layers * self.context_length * self.width


@dataclass(frozen=True)
class Collective:
    """``count`` times a step, each of ``num_bytes`` that every device holds when it is over."""

    kind: Literal["all_reduce", "all_gather", "reduce_scatter", "small_sum"]
    num_bytes: int
    count: int

    def sent(self, num_devices: int) -> float:
        """Bytes that each device sends, by the algorithm that sends the fewest."""
        share = (num_devices - 1) / num_devices
        return self.count * self.num_bytes * share * (2 if self.kind in ("all_reduce", "small_sum") else 1)


def collectives(shape: Shape, parallel: Parallel) -> list[Collective]:
    """Those of one step, taken at once.

    ddp: gradients are summed. fsdp: weights are gathered for the forward and again for the backward pass, gradients
    summed and shared out, by layer; the norm of gradients is one more number.
    """
    if parallel == "ddp":
        gradients = shape.num_parameters * GRADIENT
        num_buckets = ceil(gradients / BUCKET_BYTES)
        return [Collective("all_reduce", gradients // num_buckets, num_buckets), Collective("small_sum", 4, SMALL_SUMS)]
    layer, outer = shape.layer_parameters * NUMBER, shape.outer_parameters * NUMBER
    return [
        Collective("all_gather", layer, 2 * shape.num_layers),
        Collective("reduce_scatter", layer, shape.num_layers),
        Collective("all_gather", outer, 2),
        Collective("reduce_scatter", outer, 1),
        Collective("small_sum", 4, SMALL_SUMS + 1),
    ]


def largest_in_process(shape: Shape, parallel: Parallel | None, num_devices: int) -> int:
    """Where device and host are the same: also what a checkpoint takes, of which gradients are no more a part.

    fsdp serialises its share of the moments in memory, twice; at the end rank 0 has the weights whole, twice.
    """
    kept = bytes_kept(shape, parallel, num_devices)
    if parallel != "fsdp":
        return kept
    share = (WEIGHT + MOMENTS + BLACK_BOX) * shape.num_parameters // num_devices
    checkpoint = 2 * MOMENTS * shape.num_parameters // num_devices
    end = 2 * WEIGHT * shape.num_parameters
    return max(kept, share + checkpoint, share + end)


def bytes_kept(shape: Shape, parallel: Parallel | None, num_devices: int) -> int:
    """On each device, without activations, at the largest moment of a step.

    ddp has a second copy of the gradients, in its buckets. fsdp has, beyond its share of all, the weights and the
    gradients of embedding, head and one layer whole, and the weights of the next layer.
    """
    per_parameter = WEIGHT + GRADIENT + MOMENTS + BLACK_BOX
    if parallel == "fsdp":
        whole = 2 * (shape.outer_parameters + shape.layer_parameters) + shape.layer_parameters
        return ceil(per_parameter * shape.num_parameters / num_devices) + NUMBER * whole
    return (per_parameter + (GRADIENT if parallel == "ddp" else 0)) * shape.num_parameters
