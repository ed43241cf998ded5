"""What a run that lives pays for the autopsy of one that dies: its parts timed beside the training step, in turn.

python benchmarks/autopsy.py model=tiny
python benchmarks/autopsy.py model=handout trainer.precision=bfloat16 trainer.compile=true

Takes the overrides of src/run.py. A round has one step (which includes the check of the weights after the update), and
each of the parts once: that check again, a copy of weights and optimizer state, and the early warning fed one record
with the readings of telemetry=basic. A share is a part's median, divided by its interval, over the median step.
"""

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import count

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from normlab.app.build import build_model, build_optimizer
from normlab.app.options import CONFIG_FOLDER
from normlab.app.resolvers import register_resolvers
from normlab.autopsy.early_warning import EarlyWarning
from normlab.autopsy.limits import limits_of
from normlab.core.records import StepRecord
from normlab.telemetry.activations import ActivationProbe
from normlab.train.backpropagation import Backpropagation, Batch
from normlab.train.black_box import BlackBox
from normlab.train.finite import are_finite
from normlab.train.hardware import autocast, choose_device
from normlab.train.state import RunState
from normlab.train.step import training_step
from normlab.train.tensors import optimizer_tensors_of, weights_of

NUM_WARMUP_ROUNDS, NUM_ROUNDS = 3, 60
VOCAB_SIZE = 1024


def main() -> None:
    """Print the median time of every part with quartiles, its share of a step, and the memory of the copy."""
    torch.set_num_threads(2)
    register_resolvers()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3", job_name="normlab"):
        config = compose("config", sys.argv[1:])
    device = choose_device(config.trainer.device)
    model = build_model(config, VOCAB_SIZE, device)
    optimizer = build_optimizer(config, model)
    precision = autocast(device, config.trainer.precision)
    passes = Backpropagation(model, instantiate(config.loss), precision=precision, compile=config.trainer.compile)
    shape = (config.trainer.batch_size, config.model.context_length + 1)
    tokens_BT = torch.randint(VOCAB_SIZE, shape, generator=torch.Generator().manual_seed(0)).to(device)
    batch = Batch(tokens_BT[:, :-1], tokens_BT[:, 1:])
    box = BlackBox(model, optimizer, RunState(), every=config.autopsy.copy_every)
    warning, record, steps = EarlyWarning(limits_of(model)), _record(model, batch), count(1)

    parts: dict[str, tuple[Callable[[], object], int]] = {
        "step": (lambda: training_step(model, optimizer, passes, batch, lr=1e-3, grad_clip=1.0), 1),
        "check of the update": (lambda: are_finite(model.parameters()), 1),
        "copy": (box._keep, config.autopsy.copy_every),
        "early warning": (lambda: warning.observe(replace(record, step=next(steps))), config.telemetry.every),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(NUM_WARMUP_ROUNDS + NUM_ROUNDS):
        for name, (act, _) in parts.items():
            started = time.perf_counter()
            act()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if number >= NUM_WARMUP_ROUNDS:
                seconds[name].append(time.perf_counter() - started)

    per_step = statistics.median(seconds["step"])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; {' '.join(sys.argv[1:]) or 'defaults'}")
    print(f"{'part':<22}{'ms':>9}{'quartiles':>20}{'every':>8}{'share of a step':>18}")
    for name, (_, every) in parts.items():
        median = statistics.median(seconds[name])
        low, _, high = statistics.quantiles(seconds[name], n=4)
        quartiles = f"{1000 * low:.2f} to {1000 * high:.2f}"
        print(f"{name:<22}{1000 * median:>9.2f}{quartiles:>20}{every:>8}{median / (every * per_step):>18.3%}")
    total = sum(statistics.median(seconds[name]) / every for name, (_, every) in parts.items()) / per_step - 1
    print(f"{'all but the step':<22}{'':>37}{total:>18.3%}")
    copied = [*box._tensors.values(), *box._optimizer_state.values()]
    own = [*weights_of(model).values(), *optimizer_tensors_of(model, optimizer).values()]
    print(f"the copy takes {_megabytes(copied):.1f} MB, weights and optimizer state {_megabytes(own):.1f} MB")


def _megabytes(tensors: Iterable[torch.Tensor]) -> float:
    return sum(tensor.nbytes for tensor in tensors) / 1e6


def _record(model: torch.nn.Module, batch: Batch) -> StepRecord:
    """With the readings that telemetry=basic takes of a forward pass."""
    probe = ActivationProbe(model, per_head=False, has_gradients=False)  # type: ignore[arg-type]
    probe.watch_next_pass()
    with torch.no_grad():
        model(batch.inputs_BT)
    probe.detach()
    readings = {tag: value.item() for tag, value in probe.readings.items()}
    return StepRecord(step=0, tokens=0, seconds=0.0, lr=1e-3, train_loss=3.0, grad_norm=1.0, telemetry=readings)


if __name__ == "__main__":
    main()
