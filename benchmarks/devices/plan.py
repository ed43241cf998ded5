"""The model of cost.py on a machine that was not at hand: GPUs in nodes of eight, numbers from data sheets.

Nothing here was measured on such a machine. Constants that are guesses say so.
"""

from dataclasses import dataclass

from devices.cost import GRADIENT, MOMENTS, WEIGHT, Parallel, Shape, bytes_kept, collectives

GPUS_OF_A_NODE = 8
GPU_BYTES = 80e9
PEAK_FLOP = 989e12
"""H100 SXM, bfloat16 without sparsity: data sheet."""
ACHIEVED = 0.45
"""Of that peak, in the passes: a guess, for layers wide enough; those of `handout` are not."""
LINK, NETWORK = 450e9, 50e9
"""Bytes a second and direction of one GPU: NVLink 4 within a node, 400 Gbit/s to other nodes."""
COLLECTIVE_SECONDS = 40e-6
"""Before the first byte of a collective on GPUs of several nodes arrives: a guess."""
TCP_SECONDS = 30e-6
"""One message between two nodes over TCP: a guess. A sum of one number on the CPU takes 2 (N - 1) of them in a ring."""
LINEAR_BYTES, LOGIT_BYTES = 34, 10
"""Kept for the backward pass: 34 a token, layer and unit of width in bfloat16 with fused attention (Korthikanti et al.
2022, section 4); a logit in bfloat16, in float32, and its gradient."""


@dataclass(frozen=True)
class Study:
    """A model, and the sequences of one of its steps, over all devices."""

    shape: Shape
    global_batch: int


STUDIES = [
    Study(Shape("handout", 4, 512, 1344, 10_000, 256), 64),
    Study(Shape("handout, large batch", 4, 512, 1344, 10_000, 256), 2048),
    Study(Shape("1 B", 16, 2048, 8192, 32_000, 2048), 512),
    Study(Shape("7 B", 32, 4096, 11_008, 32_000, 4096), 512),
]


def print_plan(num_devices: int) -> None:
    """Time, memory, and what happens on one device alone."""
    print(f"On {num_devices} GPUs of {GPU_BYTES / 1e9:.0f} GB, {GPUS_OF_A_NODE} a node.\n")
    print("| model | parallel | passes, ms | on the wires, ms | waiting on the CPU, ms | share of the step in passes |")
    print("|---|---|---:|---:|---:|---:|")
    for study in STUDIES:
        for parallel in ("ddp", "fsdp"):
            print(time_row(study, parallel, num_devices))
    print("\n| model | parallel | kept, GB | of one sequence, GB | together of a GPU | autopsy, GB | gathered, GB |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for study in STUDIES:
        for parallel in ("ddp", "fsdp"):
            print(memory_row(study, parallel, num_devices))


def time_row(study: Study, parallel: Parallel, num_devices: int) -> str:
    """Passes and wires at the same time, which is the best case; then what every step waits for on the CPU."""
    passes = passes_seconds(study, num_devices)
    wires = wire_seconds(study.shape, parallel, num_devices)
    waiting = cpu_seconds(study.shape, parallel, num_devices)
    share = passes / (max(passes, wires) + waiting)
    return (
        f"| {study.shape.name}, {study.global_batch} | {parallel} | {1e3 * passes:.2f} | {1e3 * wires:.2f} "
        f"| {1e3 * waiting:.2f} | {share:.0%} |"
    )


def passes_seconds(study: Study, num_devices: int) -> float:
    """Of one device's share of the batch, at least one sequence."""
    sequences = max(1.0, study.global_batch / num_devices)
    return sequences * study.shape.context_length * study.shape.flop_per_token / (PEAK_FLOP * ACHIEVED)


def wire_seconds(shape: Shape, parallel: Parallel, num_devices: int) -> float:
    """A ring sends between two nodes, over one network card, what it sends between two GPUs of a node."""
    speed = LINK if num_devices <= GPUS_OF_A_NODE else NETWORK
    large = [each for each in collectives(shape, parallel) if each.kind != "small_sum"]
    return sum(each.sent(num_devices) / speed + each.count * COLLECTIVE_SECONDS for each in large)


def cpu_seconds(shape: Shape, parallel: Parallel, num_devices: int) -> float:
    """Numbers that lie on the CPU, summed in a ring: steps do not begin before."""
    small = sum(each.count for each in collectives(shape, parallel) if each.kind == "small_sum")
    return small * 2 * (num_devices - 1) * TCP_SECONDS


def memory_row(study: Study, parallel: Parallel, num_devices: int) -> str:
    """In training, a sequence at a time; and at the end, where rank 0 has the whole model, after a death the batch."""
    shape = study.shape
    kept = bytes_kept(shape, parallel, num_devices)
    own = activation_bytes(shape, 1)
    autopsy = (WEIGHT + GRADIENT + MOMENTS) * shape.num_parameters + activation_bytes(shape, study.global_batch)
    gathered = (WEIGHT + MOMENTS) * shape.num_parameters
    return (
        f"| {shape.name}, {study.global_batch} | {parallel} | {kept / 1e9:.1f} | {own / 1e9:.1f} "
        f"| {(kept + own) / GPU_BYTES:.0%} | {autopsy / 1e9:.0f} | {gathered / 1e9:.1f} |"
    )


def activation_bytes(shape: Shape, num_sequences: float) -> float:
    """Kept between the passes, where a device takes its sequences at once and recomputes nothing."""
    of_a_token = LINEAR_BYTES * shape.num_layers * shape.width + LOGIT_BYTES * shape.vocab_size
    return num_sequences * shape.context_length * of_a_token
