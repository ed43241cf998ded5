"""What a clamp on the attention logits costs: every form of attention against torch's fused kernel.

python benchmarks/attention.py
python benchmarks/attention.py --context 1024 --heads 4 --batch 32
python benchmarks/attention.py --device cuda

Forward and backward pass of attention alone; queries, keys and values as projections give them. Time is relative to
torch's own fused kernel in the same precision and setting, uncompiled where the row is. A round has one pass of each
row, the order turning; medians with quartiles. Memory is what is kept between the passes, by distinct memory.

Shapes: ``B`` batch, ``H`` heads, ``T`` time, ``K`` head width.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from normlab.model.attention import ClampedAttention, ExplicitAttention, FusedAttention, observe_nothing
from normlab.model.attention_kernel import is_available
from normlab.model.chunked_attention import in_chunks
from normlab.model.clamp import HardClamp, SoftClamp
from normlab.model.softmax import StableSoftmax

HEAD_WIDTH = 32
SCALE = HEAD_WIDTH**-0.5
LIMIT = 2.0
"""Cuts some logits of normal queries and keys, so that no row gains from an idle clamp."""
TORCH = "torch, fused"
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
Heads = tuple[Tensor, Tensor, Tensor]


def main() -> None:
    """Print one table for each precision and context."""
    arguments = parsed()
    if arguments.device == "cpu":
        torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {device_name(arguments)}; kernel available: {is_available()}")
    print(f"B={arguments.batch} H={arguments.heads} K={HEAD_WIDTH}, limit {LIMIT}")
    for num_tokens in arguments.context:
        for dtype in (torch.float32, torch.bfloat16):
            print_table(arguments, num_tokens, dtype)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--context", type=int, nargs="+", default=[256, 1024])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default="", help="rows whose name contains it, beside torch's")
    return parser.parse_args()


def device_name(arguments: argparse.Namespace) -> str:
    """The device in words."""
    is_cuda = arguments.device.startswith("cuda")
    return torch.cuda.get_device_name(arguments.device) if is_cuda else f"{arguments.threads} CPU threads"


def print_table(arguments: argparse.Namespace, num_tokens: int, dtype: torch.dtype) -> None:
    """Rows in turn, in rounds; the first two are not counted."""
    inputs, cotangent = drawn(arguments, num_tokens, dtype)
    rows = {
        name: attend for name, attend in forms(arguments.device) if name.startswith(TORCH) or arguments.only in name
    }
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    names = list(rows)
    for number in range(arguments.rounds + 2):
        for offset in range(len(names)):
            name = names[(number + offset) % len(names)]
            taken = seconds_of(rows[name], inputs, cotangent)
            if number >= 2:
                seconds[name].append(taken)
    print(f"\nT={num_tokens} {str(dtype).removeprefix('torch.')}")
    print(f"{'':<34}{'ms':>9}{'relative':>10}{'quartiles':>16}{'kept, MB':>10}")
    for name, attend in rows.items():
        base = f"{TORCH}, compiled" if name.endswith("compiled") else TORCH
        relative = [mine / other for mine, other in zip(seconds[name], seconds[base], strict=True)]
        low, middle, high = statistics.quantiles(relative, n=4)
        kept = f"{kept_bytes(attend, inputs) / 1e6:.1f}" if not name.endswith("compiled") else ""
        milliseconds = 1000 * statistics.median(seconds[name])
        print(f"{name:<34}{milliseconds:>9.1f}{middle:>10.2f}{f'{low:.2f} to {high:.2f}':>16}{kept:>10}", flush=True)


def drawn(arguments: argparse.Namespace, num_tokens: int, dtype: torch.dtype) -> tuple[Heads, Tensor]:
    """Normal queries, keys, values, and the gradient of the output; in memory by time, then heads."""
    shape = (4, arguments.batch, num_tokens, arguments.heads, HEAD_WIDTH)
    query, key, value, cotangent = torch.randn(shape, device=arguments.device).to(dtype).transpose(2, 3)
    return (query.requires_grad_(), key.requires_grad_(), value.requires_grad_()), cotangent


def forms(device: str) -> Iterator[tuple[str, Attend]]:
    """Every form of attention, uncompiled and compiled."""
    torch_fused = partial(functional.scaled_dot_product_attention, is_causal=True, scale=SCALE)
    clamps = {"none": nn.Identity(), "hard": HardClamp(limit=LIMIT), "soft": SoftClamp(limit=LIMIT)}
    named: dict[str, Attend] = {TORCH: torch_fused, "FusedAttention": FusedAttention(SCALE).to(device)}
    for word, clamp in clamps.items():
        clamped = ClampedAttention(SCALE, clamp, StableSoftmax()).to(device)
        explicit = ExplicitAttention(SCALE, clamp, StableSoftmax(), observe_nothing).to(device)
        named[f"ClampedAttention, {word}"] = clamped
        named[f"in chunks, {word}"] = partial(in_chunks, explicit)
        named[f"explicit, {word}"] = explicit
    for name, attend in named.items():
        yield name, attend
        yield f"{name}, compiled", torch.compile(attend, dynamic=False)


def seconds_of(attend: Attend, inputs: Heads, cotangent: Tensor) -> float:
    """Of one forward and backward pass."""
    wait = torch.cuda.synchronize if cotangent.is_cuda else lambda: None
    wait()
    started = time.perf_counter()
    torch.autograd.grad(attend(*inputs), inputs, cotangent)
    wait()
    return time.perf_counter() - started


def kept_bytes(attend: Attend, inputs: Heads) -> int:
    """What is kept between the forward and the backward pass."""
    kept: dict[int, Tensor] = {}
    with saved_tensors_hooks(lambda x: kept.setdefault(x.untyped_storage().data_ptr(), x), lambda x: x):
        attend(*inputs)
    return sum(x.untyped_storage().nbytes() for x in kept.values())


if __name__ == "__main__":
    main()
