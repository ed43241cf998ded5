"""What ``trainer=auto`` has come to on this machine."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from normlab.app.overrides import parse_override
from normlab.app.recorded import DAMAGE, damaged
from normlab.train.fastest import matmul_rates
from normlab.train.hardware import kind_of

GROUP, OPTION = "trainer", "auto"
SETTINGS = ("precision", "compile")


def choice_in_words(config: DictConfig) -> Iterator[str]:
    """A line that says what was chosen and why; none where nothing was left to the machine."""
    if OmegaConf.select(config, f"hydra.runtime.choices.{GROUP}") != OPTION:
        return
    trainer = config.trainer
    rates = matmul_rates(kind_of(trainer.device))
    measured = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {precision}" for precision, rate in rates.items())
    why = f"; matrix products run at {measured} here" if measured else ""
    yield (
        f"note: trainer=auto is trainer.precision={trainer.precision} trainer.compile={str(trainer.compile).lower()}"
        f"{why}."
    )


def recorded_choice(overrides: Sequence[str], recorded: Path) -> list[str]:
    """The overrides that make ``trainer=auto`` what it was for a run that recorded its configuration in a file.

    Whatever the machine is now. Raises CheckpointError where the file is damaged.
    """
    chosen = [override for override in map(parse_override, overrides) if override.key_or_group == GROUP]
    if not chosen or chosen[-1].value() != OPTION:
        return []
    try:
        trainer = OmegaConf.load(recorded).trainer
        return [f"{GROUP}.{key}={trainer[key]}" for key in SETTINGS]
    except DAMAGE:
        raise damaged(recorded) from None
