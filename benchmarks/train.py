"""Training speed beside what people would use instead: one table, all contestants in turns of the same run.

python benchmarks/train.py --only tiny --context 128 --batch 8           # some rows
python benchmarks/train.py --only handout --batch 8 --json speed.jsonl   # the same, kept
python benchmarks/train.py --show speed.jsonl                            # all that was kept, as one document
python benchmarks/train.py --device cuda

The peers come with `uv sync --group bench`; where that is not wanted, `uv pip install --no-deps litgpt lightning
lightning-utilities pytorch-lightning torchmetrics jsonargparse typeshed-client psutil` beside transformers. A peer
that is missing is left out, in one line. Each peer first finds its best settings among {compiled, eager} x {float32,
bfloat16 autocast}, with fused AdamW and torch's fused attention; on CUDA among modes of torch.compile, in bfloat16.
With --json these choices, and peaks of memory, are kept and not found again. FLOP are counted once, on the project's
plain model with explicit attention, and are the same for all. All run in one process, and so all profit from the
settings of the allocator and of denormal numbers, which are the project's.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

import torch
from hydra import initialize_config_dir
from training.contestants import (
    AS_WRITTEN,
    AUTO,
    CPU_SETTINGS,
    CUDA_SETTINGS,
    EAGER,
    PROJECT_BEST,
    Contestant,
    Settings,
)
from training.machine import Peak, describe_machine
from training.memory import peak_bytes
from training.peers import PEERS, missing_package
from training.rounds import admitted, qualified, seconds_in_rounds
from training.shapes import CLAMPS, NORMS, VOCAB_SIZE, Shape, chosen_shapes, flops_per_step
from training.table import Ledger, markdown, markdown_head, rows_of

from normlab.app.options import CONFIG_FOLDER
from normlab.app.resolvers import register_resolvers
from normlab.train.hardware import flush_denormals, keep_freed_memory

HANDOUT_TOKENS = 327_680_000
PLAIN = Settings("float32", "", fused_optimizer=False)


def main() -> None:
    """Print a table for every configuration that is asked for."""
    arguments = _arguments()
    if arguments.show is not None:
        return _show(Ledger(arguments.show))
    device = torch.device(arguments.device)
    torch.set_num_threads(arguments.threads)
    register_resolvers()
    flush_denormals()
    keep_freed_memory()
    head = describe_machine(device)
    print(markdown_head(head), flush=True)
    ledger, started = Ledger(arguments.json), time.monotonic()
    shapes = list(chosen_shapes(arguments.only, arguments.context, arguments.batch, arguments.norm, arguments.clamp))
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3", job_name="normlab"):
        for shape in shapes:
            if time.monotonic() - started > 60 * arguments.minutes:
                print(f"not measured, the {arguments.minutes:g} minutes are over: {shape}", flush=True)
                continue
            entry = _measured(shape, device, arguments, ledger, head)
            ledger.add(entry)
            print(markdown(entry), flush=True)
            if shape.name == "handout":
                speed = next(row["tokens_per_second"] for row in entry["rows"] if row["contestant"] == AUTO)
                minutes = HANDOUT_TOKENS / speed / 60
                print(f"At {speed:,.0f} tokens/s, {HANDOUT_TOKENS / 1e6:.2f} M tokens take {minutes:,.1f} minutes.\n")


def _measured(
    shape: Shape, device: torch.device, arguments: argparse.Namespace, ledger: Ledger, head: dict[str, str]
) -> dict:
    """All contestants of one configuration, first those that have to find their settings."""
    torch.compiler.reset()
    flops = flops_per_step(shape)
    contestants, settings_of = [], {}
    for name in _names(device):
        package = missing_package(name)
        if package is not None:
            _note(f"{name} is left out: type uv pip install {package} (see the head of benchmarks/train.py).")
            continue
        contestant, settings_of[name] = _contestant(name, shape, device, ledger)
        contestants.append(contestant)
        if contestant.num_parameters != contestants[0].num_parameters:
            raise AssertionError(f"{name} has {contestant.num_parameters} parameters, not those of {AUTO}")
    memory = {contestant.name: contestant.peak_bytes for contestant in contestants}
    if arguments.memory and device.type == "cpu":
        for name, settings in settings_of.items():
            asked = {"shape": str(shape), "device": str(device), "contestant": name}
            known = ledger.find("memory", asked)
            if known is None:
                known = {**asked, "bytes": peak_bytes(name, settings, shape, arguments.threads)}
                ledger.add({"kind": "memory", **known})
            memory[name] = known["bytes"]
    peak = Peak(device)
    seconds = seconds_in_rounds(contestants, arguments.rounds, arguments.seconds, device, peak)
    return rows_of(shape, flops, contestants, seconds, peak, memory, head)


def _names(device: torch.device) -> list[str]:
    own = [AUTO, EAGER, PROJECT_BEST] if device.type == "cuda" else [AUTO, EAGER]
    return [*own, *PEERS, AS_WRITTEN]


def _contestant(name: str, shape: Shape, device: torch.device, ledger: Ledger) -> tuple[Contestant, Settings | None]:
    """At the settings that are its own, that an earlier run has found for it, or that it finds now."""
    if name in (AUTO, EAGER, AS_WRITTEN):
        settings = PLAIN if name == AS_WRITTEN else None
        return admitted(name, settings, shape, device), settings
    asked = {"shape": str(shape), "device": str(device), "contestant": name}
    known = ledger.find("settings", asked)
    if known is not None:
        settings = Settings(**known["settings"])
        return admitted(name, settings, shape, device), settings
    choices = CUDA_SETTINGS if device.type == "cuda" else CPU_SETTINGS
    contestant, settings = qualified(name, choices, shape, device, _note)
    ledger.add({"kind": "settings", **asked, "settings": asdict(settings)})
    return contestant, settings


def _show(ledger: Ledger) -> None:
    head: dict[str, str] = {}
    for entry in ledger.entries("rows"):
        if entry["head"] != head:
            head = entry["head"]
            print(markdown_head(head))
        print(markdown(entry))


def _note(text: str) -> None:
    print(f"<!-- {text.strip()} -->", flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", type=_words, default=list(reversed(VOCAB_SIZE)), help="tiny,handout")
    parser.add_argument("--context", type=_numbers, default=[], help="tokens; default all of a size")
    parser.add_argument("--batch", type=_numbers, default=[8, 32], help="sequences a step")
    parser.add_argument("--norm", type=_words, default=list(NORMS))
    parser.add_argument("--clamp", type=_words, default=list(CLAMPS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--seconds", type=float, default=50, help="begin no further round of a configuration after them"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no configuration after them")
    parser.add_argument("--memory", action="store_true", help="on CPU, by a process for each contestant")
    parser.add_argument("--json", type=Path, default=None, help="a file that rows and settings are added to")
    parser.add_argument("--show", type=Path, default=None, help="print such a file and measure nothing")
    return parser.parse_args()


def _words(text: str) -> list[str]:
    return text.split(",")


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


if __name__ == "__main__":
    main()
