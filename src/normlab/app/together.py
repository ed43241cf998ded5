"""One command line for all processes of a run: rank 0 checks it, decides on the folder and speaks."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace

from omegaconf import DictConfig

from normlab.app.announce import announce
from normlab.app.build import Experiment, build_model, build_optimizer
from normlab.data.disk import Announce
from normlab.train.black_box import IN_MEMORY, BlackBox
from normlab.train.distributed.sharding import brought_together
from normlab.train.distributed.world import ALONE, World
from normlab.train.tensors import fill_model, fill_optimizer, optimizer_tensors_of, weights_of

NO_NOTES = "hydra.output_subdir=null"
"""The notes that Hydra makes of a run in its folder are rank 0's to make."""


def arguments_of_all(world: World, check: Callable[[], Sequence[str]]) -> list[str]:
    """The arguments that rank 0 has checked and completed with the run's folder; others hear of no error."""
    arguments = list(world.from_main(lambda: list(check())))
    return arguments if world.is_main else [*arguments, NO_NOTES]


def announce_in(world: World) -> Announce:
    """Lines for the person who waits come from rank 0."""
    return announce if world.is_main else lambda line: None


@contextmanager
def silent_unless_main(world: World) -> Iterator[None]:
    """While inside, standard output is rank 0's; errors are anybody's."""
    if world.is_main:
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        yield


def in_one_process(
    config: DictConfig, experiment: Experiment, black_box: BlackBox, *, is_dead: bool
) -> Experiment | None:
    """At rank 0 the experiment as a process by itself would have it, with whole weights and batches; None elsewhere.

    Where weights are spread they are brought together, for which all processes are here; for the autopsy of a run that
    ``is_dead`` the optimizer's state and the copy in the black box as well.
    """
    world = experiment.world
    if world.size == 1:
        return experiment
    model, optimizer = experiment.model, experiment.optimizer
    if experiment.settings.parallel == "fsdp":
        weights = brought_together(weights_of(model), world)
        moments = brought_together(optimizer_tensors_of(model, optimizer), world) if is_dead else {}
        if is_dead:
            black_box.bring_together(world)
        if world.is_main:
            model = build_model(config, experiment.corpus.vocab_size, experiment.device)
            optimizer = build_optimizer(config, model)
            fill_model(model, weights, IN_MEMORY)
            if is_dead:
                fill_optimizer(model, optimizer, moments, IN_MEMORY)
    if not world.is_main:
        return None
    return replace(experiment, model=model, optimizer=optimizer, world=ALONE, batches=experiment.batches.whole())
