"""From the checked configurations of a sweep's runs to its plan: what they vary, which are one run, where each is."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import time
from typing import get_type_hints

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf

from normlab.app.announce import announce
from normlab.app.canonical import fingerprint_of
from normlab.app.provenance import git_commit, versions
from normlab.app.schema import unmet_demand
from normlab.app.sweeps.plan import PlannedJob, SweepPlan
from normlab.app.sweeps.rates import RateGrid
from normlab.app.sweeps.reuse import version_of_code, with_results_from_elsewhere
from normlab.app.sweeps.study import Study, as_typed
from normlab.core.errors import ConfigError
from normlab.core.run_folder import RunFolder
from normlab.report.recorded_plan import NO_CHOICE, PLAN

UNSAID = "default"
RATE = "optimizer.lr"
SEARCHING_SWEEPERS = ("frontier",)


def without_searched_rates(study: Study, config: DictConfig, typed: Sequence[Override]) -> Study:
    """The study, with no rates in its grid where the sweeper chooses them; raises ConfigError where some were typed."""
    sweeper = config.hydra.runtime.choices["hydra/sweeper"]
    if sweeper not in SEARCHING_SWEEPERS:
        return study
    check_rate_grid(config.hydra.sweeper)
    for override in typed:
        if override.get_key_element() == RATE:
            raise ConfigError(
                f"hydra/sweeper={sweeper} chooses {RATE} itself; got {override.input_line}. Remove it, and type "
                f"hydra.sweeper.lowest=… hydra.sweeper.highest=… for where to search."
            )
    return replace(study, grid={key: values for key, values in study.grid.items() if key != RATE})


def check_rate_grid(sweeper: DictConfig) -> None:
    """Raise ConfigError where the rates of a searching sweeper make no grid."""
    for key, annotation in get_type_hints(RateGrid, include_extras=True).items():
        demand = unmet_demand(sweeper[key], annotation)
        if demand is not None:
            raise ConfigError(f"hydra.sweeper.{key} must be {demand}; got {sweeper[key]}. Type hydra.sweeper.{key}=….")
    RateGrid(**{key: sweeper[key] for key in get_type_hints(RateGrid)})


def planned_jobs(jobs: Sequence[Sequence[str]], configs: Sequence[DictConfig], keys: Sequence[str]) -> list[PlannedJob]:
    """A job for every configuration (with Hydra's part), which differ in ``keys``; equal models share a folder."""
    folders: dict[str, str] = {}
    planned = []
    for overrides, config in zip(jobs, configs, strict=True):
        job = planned_job(overrides, config, keys)
        planned.append(replace(job, folder=folders.setdefault(job.fingerprint, job.folder)))
    return planned


def planned_job(overrides: Sequence[str], config: DictConfig, keys: Sequence[str]) -> PlannedJob:
    """One job in a folder of its own."""
    name = str(config.hydra.sweep.subdir)
    return PlannedJob(
        name=name,
        folder=name,
        overrides=list(overrides),
        choices={key: _chosen(config, key) for key in keys if key not in NO_CHOICE},
        lr=float(config.optimizer.lr),
        seed=int(config.seed),
        fingerprint=fingerprint_of(config),
        planned_steps=int(config.trainer.steps),
    )


def write_plan(
    arguments: Sequence[str],
    study: Study,
    jobs: Sequence[Sequence[str]],
    configs: Sequence[DictConfig],
    keys: Sequence[str],
    folder: Path,
) -> None:
    """Write the plan of these runs into the sweep's folder; an earlier one of the folder is gone on with."""
    (config, *_) = configs
    is_searched = config.hydra.runtime.choices["hydra/sweeper"] in SEARCHING_SWEEPERS
    planned = planned_jobs(jobs, configs, keys)
    plan = SweepPlan(
        command=f"python src/run.py {shlex.join(arguments)}",
        experiment=config.hydra.runtime.choices.get("experiment"),
        question=study.question,
        baseline=study.baseline,
        claims=study.claims,
        varied={},
        jobs=[],
        searches=planned if is_searched else [],
        started=time(),
    ).with_jobs([] if is_searched else planned)
    plan = _continued(plan, folder)
    _note_other_versions(plan, folder)
    if config.reuse == "global":
        plan = with_results_from_elsewhere(plan, folder, [Path("multirun"), Path("outputs"), folder.parent])
    plan.write(folder)


def _continued(plan: SweepPlan, folder: Path) -> SweepPlan:
    """The plan, gone on with where the folder has an earlier one: the same runs keep their folders.

    The claims stay as they were when the sweep first began. Raises CheckpointError where the earlier plan is damaged.
    """
    if not (folder / PLAN).exists():
        return plan
    earlier = SweepPlan.read(folder)
    folders = {job.fingerprint: job.folder for job in earlier.jobs if not _is_gone(folder, job)}
    jobs = [replace(job, folder=folders.get(job.fingerprint, job.folder)) for job in plan.jobs]
    if earlier.experiment == plan.experiment and earlier.claims and list(earlier.claims) != list(plan.claims):
        announce("note: the experiment's claims have changed since this sweep began; they are judged as they were.")
        plan = replace(plan, claims=earlier.claims)
    if plan.searches:
        return replace(plan.with_jobs(earlier.jobs), searches=plan.searches)
    _note_changes(earlier, jobs)
    return replace(plan, jobs=jobs)


def _is_gone(folder: Path, job: PlannedJob) -> bool:
    """Whether the job had the result of another sweep or run, and has it no more."""
    return Path(job.folder).is_absolute() and RunFolder(folder / job.folder).result() is None


def _note_changes(earlier: SweepPlan, jobs: Sequence[PlannedJob]) -> None:
    """What was computed and is not asked for any more, and why, as far as that can be told."""
    wanted = {job.fingerprint for job in jobs}
    left = [job for job in earlier.jobs if job.fingerprint not in wanted]
    if not left:
        return
    same_words = {tuple(job.overrides) for job in jobs} & {tuple(job.overrides) for job in left}
    if same_words:
        announce(
            f"note: {len(same_words)} runs are not what they were when this sweep began, though the command is: data "
            "or configuration files have changed. They are made anew; what there is of the earlier ones stays."
        )
    if len(left) > len(same_words):
        announce(f"note: {len(left) - len(same_words)} runs in this folder are not of this command; they are left out.")


def _note_other_versions(plan: SweepPlan, folder: Path) -> None:
    """That results which are kept come from another version of the code or of torch."""
    here = version_of_code(git_commit(), versions())
    kept = [run.folder.read_summary() for run in plan.runs(folder) if run.folder.result() is not None]
    num_others = sum(version_of_code(told.get("git_commit"), told.get("versions")) != here for told in kept)
    if num_others:
        announce(
            f"note: {num_others} of {len(kept)} results in this folder were made with another version of the code or "
            "of torch. They are kept; to make them anew name another hydra.sweep.dir."
        )


def _chosen(config: DictConfig, key: str) -> str:
    """A group's option or a key's value in a configuration; "default" where that has no such key."""
    choices: Mapping[str, str] = config.hydra.runtime.choices
    bare = key.lstrip("+~")
    if bare in choices:
        return str(choices[bare])
    value = OmegaConf.select(config, bare, default=UNSAID)
    return as_typed(OmegaConf.to_container(value) if OmegaConf.is_config(value) else value)
