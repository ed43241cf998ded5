"""Rules for one run on many devices: how it is started, and what cannot be computed right on spread weights."""

from omegaconf import DictConfig

from normlab.app.canonical import sequences_per_step
from normlab.app.targets import target_of
from normlab.app.validate import TRAIN
from normlab.core.errors import ConfigError
from normlab.model.qk_clip import QKRescale
from normlab.model.sigma_reparam import SigmaReparamLinear
from normlab.train.distributed.place import Place

TORCHRUN = "torchrun --standalone --nproc-per-node="
MUON, ADAMW_CLIPPED = "normlab.optim.muon.muon", "normlab.optim.adamw_clipped.adamw_clipped"
PACKED = "normlab_launchers.PackedLauncher"


def check_start(config: DictConfig, place: Place | None, *, is_multirun: bool) -> None:
    """Raise ConfigError where a run's processes are not as many as its configuration says, or cannot be."""
    parallel = config.trainer.parallel
    if is_multirun:
        if place is not None and place.size > 1:
            raise ConfigError(
                "A sweep starts its runs itself; got --multirun under torchrun. Type python src/run.py --multirun …, "
                "with hydra/launcher=submitit_slurm and hydra.launcher.tasks_per_node=… for runs on many devices."
            )
        check_group(config, _tasks_of_launcher(config))
        return
    if parallel != "none" and place is None and config.task._target_ == TRAIN:
        raise ConfigError(
            f"trainer.parallel={parallel} must be started as many processes; got one. "
            f"Type {TORCHRUN}2 src/run.py trainer={parallel}, or trainer.parallel=none."
        )
    check_group(config, 1 if place is None else place.size)


def check_group(config: DictConfig, num_processes: int) -> None:
    """Raise ConfigError where that many processes cannot share the configured run."""
    trainer = config.trainer
    if config.task._target_ != TRAIN:
        if num_processes > 1:
            raise ConfigError(f"Only a training is shared by {num_processes} processes. Type python src/run.py task=….")
        return
    if trainer.parallel == "none":
        if num_processes > 1:
            raise ConfigError(
                f"{num_processes} processes must be told how to share a run; got trainer.parallel=none. "
                "Type trainer=ddp (each has all weights) or trainer=fsdp (each has some)."
            )
        return
    _batch_is_divisible(config, num_processes)
    _device_is_of_each(config, num_processes)
    if trainer.cuda_graphs:
        raise ConfigError("trainer.cuda_graphs=true is for one device. Type trainer.cuda_graphs=false.")
    if trainer.parallel == "fsdp" and num_processes > 1:
        _weights_can_be_spread(config)


def _tasks_of_launcher(config: DictConfig) -> int:
    """How many processes the launcher of a sweep starts for each run."""
    launcher = config.hydra.launcher
    num_tasks = (launcher.get("tasks_per_node") or 1) * (launcher.get("nodes") or 1)
    if num_tasks > 1 or config.task._target_ != TRAIN or config.trainer.parallel == "none":
        return num_tasks
    raise ConfigError(
        f"A sweep with trainer.parallel={config.trainer.parallel} must have several processes for each run; its "
        "launcher starts one. Type hydra/launcher=submitit_slurm hydra.launcher.tasks_per_node=2, or "
        "trainer.parallel=none."
    )


def _batch_is_divisible(config: DictConfig, num_processes: int) -> None:
    num_sequences = sequences_per_step(config.trainer)
    if num_sequences % num_processes != 0:
        fitting = -(-num_sequences // num_processes) * num_processes
        raise ConfigError(
            "trainer.global_batch (null: trainer.batch_size) must be divisible by the number of devices; got "
            f"{num_sequences} and {num_processes}. Try trainer.global_batch={fitting}."
        )


def _device_is_of_each(config: DictConfig, num_processes: int) -> None:
    device = config.trainer.device
    if num_processes > 1 and device not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"trainer.device must be auto, cpu or cuda for {num_processes} processes, of which each takes its own; got "
            f"{device}. Try trainer.device=auto."
        )


def _weights_can_be_spread(config: DictConfig) -> None:
    """What needs a whole matrix, or a number in a place of its own, is for ddp."""
    optimizer, linear, qk_clip = (
        part._target_ for part in (config.optimizer, config.model.linear, config.attention.qk_clip)
    )
    void = [
        ("optimizer=muon", optimizer == MUON, "orthogonalises whole matrices"),
        ("optimizer=adamw_clipped", optimizer == ADAMW_CLIPPED, "looks at whole tensors"),
        ("model/linear=sigma_reparam", linear == target_of(SigmaReparamLinear), "has gains that are single numbers"),
        ("attention/qk_clip=rescale", qk_clip == target_of(QKRescale), "rescales whole heads"),
        ("telemetry.sharpness_every", config.telemetry.sharpness_every > 0, "takes derivatives by whole weights"),
        ("trainer.compile=true", config.trainer.compile, "sees no weights that come and go"),
    ]
    for name, is_asked_for, why in void:
        if is_asked_for:
            raise ConfigError(f"{name} {why}, which trainer.parallel=fsdp spreads. Type trainer=ddp.")


def check_packed(config: DictConfig) -> None:
    """Raise ConfigError for a run of a packed sweep that asks for several devices, or for its batch in parts."""
    if config.hydra.launcher._target_.endswith(PACKED) is False:
        return
    if config.trainer.parallel != "none":
        raise ConfigError(
            f"hydra/launcher=packed trains on one device; got trainer.parallel={config.trainer.parallel}. "
            "Type hydra/launcher=submitit_slurm, or trainer.parallel=none."
        )
    if sequences_per_step(config.trainer) > config.trainer.batch_size:
        raise ConfigError(
            "hydra/launcher=packed takes each batch at once; got trainer.global_batch above trainer.batch_size. "
            "Type hydra/launcher=basic."
        )
