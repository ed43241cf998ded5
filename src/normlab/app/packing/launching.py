"""Launching the jobs of a sweep in packs."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from normlab.app.announce import announce
from normlab.app.failures import failure_of
from normlab.app.job_end import STOPPED, JobEnd
from normlab.app.packing.graphs import graph_of
from normlab.app.packing.memory import Room
from normlab.app.packing.together import Together
from normlab.app.sweeps.launching import CRASH, SweepStopped


def launch_packed(
    hydra_context: HydraContext,
    task_function: TaskFunction,
    config: DictConfig,
    job_overrides: Sequence[Sequence[str]],
    first_number: int,
    max_runs: int,
) -> list[JobReturn]:
    """Run all jobs in this process, those that share a graph side by side; return what they did in their order.

    Raises SweepStopped where a signal has ended them.
    """
    setup_globals()
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    jobs = []
    for number, overrides in enumerate(job_overrides, first_number):
        of_job = hydra_context.config_loader.load_sweep_config(config, list(overrides))
        with open_dict(of_job):
            of_job.hydra.job.id = of_job.hydra.job.num = number
        jobs.append(of_job)
    returned: dict[int, JobReturn] = {}
    groups = in_groups([graph_of(job) for job in jobs])
    num_alone = sum(len(group) == 1 for group in groups)
    if num_alone and len(jobs) > 1:
        announce(f"note: {num_alone} of {len(jobs)} runs train by themselves: no other shares their model's structure.")
    for group in groups:
        waiting = group
        while waiting:
            runs = [partial(_run, hydra_context, task_function, jobs[index]) for index in waiting]
            returned |= zip(waiting, _run_side_by_side(runs, max_runs), strict=False)
            waiting = [index for index in waiting if index not in returned]
    configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    return [returned[index] for index in range(len(jobs))]


def in_groups(graphs: Sequence[str | None]) -> list[list[int]]:
    """The indices of equal graphs together, in order; one that is None stays alone."""
    groups: dict[object, list[int]] = {}
    for index, graph in enumerate(graphs):
        groups.setdefault(index if graph is None else graph, []).append(index)
    return list(groups.values())


def _run_side_by_side(runs: Sequence[Any], max_runs: int) -> list[JobReturn]:
    """What the first of the runs came to, as many as memory holds; one that is left alone runs the ordinary way."""
    if len(runs) == 1 or max_runs == 1:
        returned = [runs[0]()]
    else:
        together = Together()
        returned = together.run(runs, Room(max_runs))
        if together.stop.signal_number is not None:
            raise SweepStopped(together.stop.exit_code)
    code = max(job.return_value.exit_code for job in returned)
    if code >= STOPPED:
        raise SweepStopped(code)
    return returned


def _run(hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> JobReturn:
    """As Hydra's own launcher does it. What goes wrong before the run begins is that run's alone."""
    try:
        return run_job(
            hydra_context=hydra_context,
            task_function=task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
    except Exception as error:
        line = failure_of(error, config.hydra.runtime.output_dir).line
        announce(f"error: {line}")
        job = JobReturn(status=JobStatus.COMPLETED)
        job.return_value = JobEnd(CRASH, line)
        return job
