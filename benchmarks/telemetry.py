"""What the instruments cost: steps without them, with telemetry=basic and with telemetry=full, in turn.

python benchmarks/telemetry.py model=tiny
python benchmarks/telemetry.py model=handout attention/clamp=hard trainer.precision=bfloat16

Takes the overrides of src/run.py. A round has one step of each kind, the order turning; every step that is timed is
one at which the instruments are due. The cost at an interval follows: (watched - plain) / (interval * plain).
"""

import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import optim

from normlab.app.build import build_model
from normlab.app.options import CONFIG_FOLDER
from normlab.app.resolvers import register_resolvers
from normlab.core.records import StepRecord
from normlab.telemetry.instruments import Instruments, TelemetrySettings
from normlab.train.backpropagation import Backpropagation, Batch
from normlab.train.hardware import autocast, choose_device
from normlab.train.step import training_step

NUM_WARMUP_ROUNDS, NUM_ROUNDS = 3, 40
VOCAB_SIZE = 1024
KINDS = ("none", "basic", "full")


def main() -> None:
    """Print the median time of a step of every kind, with quartiles, and the cost at the default interval."""
    torch.set_num_threads(2)
    register_resolvers()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3", job_name="normlab"):
        steps = {kind: steps_of(compose("config", [*sys.argv[1:], f"telemetry={kind}"])) for kind in KINDS}
        intervals = {kind: compose("config", [f"telemetry={kind}"]).telemetry.every for kind in KINDS}
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(NUM_WARMUP_ROUNDS + NUM_ROUNDS):
        for offset in range(len(KINDS)):
            kind = KINDS[(number + offset) % len(KINDS)]
            started = time.perf_counter()
            next(steps[kind])
            if number >= NUM_WARMUP_ROUNDS:
                seconds[kind].append(time.perf_counter() - started)
    plain = statistics.median(seconds["none"])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {' '.join(sys.argv[1:]) or 'defaults'}")
    print(f"{'telemetry':<12}{'ms a due step':>16}{'quartiles':>20}{'every':>8}{'throughput lost':>18}")
    for kind in KINDS:
        median = statistics.median(seconds[kind])
        low, _, high = statistics.quantiles(seconds[kind], n=4)
        extra = (median - plain) / (intervals[kind] * plain) if intervals[kind] > 0 else 0.0
        quartiles = f"{1000 * low:.1f} to {1000 * high:.1f}"
        lost = 1 - 1 / (1 + extra)
        print(f"{kind:<12}{1000 * median:>16.1f}{quartiles:>20}{intervals[kind]:>8}{lost:>18.2%}")


def steps_of(config: DictConfig) -> Iterator[StepRecord]:
    """Training steps on random tokens, the instruments due at every one."""
    device = choose_device(config.trainer.device)
    model = build_model(config, VOCAB_SIZE, device)
    optimizer: optim.Optimizer = instantiate(config.optimizer)(model)
    asked: TelemetrySettings = instantiate(config.telemetry)
    settings = replace(asked, every=min(1, asked.every))
    precision = autocast(device, config.trainer.precision)
    passes = Backpropagation(model, instantiate(config.loss), precision=precision, compile=config.trainer.compile)
    shape = (config.trainer.batch_size, config.model.context_length + 1)
    tokens = torch.randint(VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(0)).to(device)
    batch = Batch(tokens[:, :-1], tokens[:, 1:])

    def records() -> Iterator[StepRecord]:
        for step in count(1):
            result = training_step(model, optimizer, passes, batch, lr=1e-3, grad_clip=1.0)
            yield StepRecord(
                step=step, tokens=0, seconds=0.0, lr=1e-3, train_loss=result.loss, grad_norm=result.grad_norm
            )

    def run_model(step: int) -> None:
        with torch.no_grad(), precision:
            model(batch.inputs_BT)

    instruments = Instruments(
        settings,
        model,
        optimizer,
        is_apart=passes.hides_model,
        run_model=run_model,
        weights_are_gone=lambda: False,
        measure_sharpness=dict,
    )
    return instruments.observed(records(), 1)


if __name__ == "__main__":
    main()
