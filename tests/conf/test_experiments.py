"""Every experiment in both of its sizes: it can be run, and its claims speak of runs that it makes."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from tests.report.made import made_run, made_sweep

from normlab.app.options import CONFIG_FOLDER
from normlab.app.overrides import check_groups, parse_override
from normlab.app.resolvers import register_resolvers
from normlab.app.schema import check_schema
from normlab.app.sweeps.grid import jobs_of, swept_keys
from normlab.app.sweeps.planning import planned_job
from normlab.app.sweeps.study import Study, study_of
from normlab.app.targets import admitted_packages, check_targets
from normlab.app.validate import validate
from normlab.report.results import SweepResult
from normlab.report.selection import select, select_variant

PATHS = sorted(path for path in (CONFIG_FOLDER / "experiment").glob("*.yaml") if not path.name.startswith("_"))
SIZES = ("cpu", "gpu")
RATE_AND_SEED = ("optimizer.lr", "seed")
BEST_OF_THEM = 1  # which of the rates has the lowest made-up loss: neither the first nor the last
COST = re.compile(r"(?P<runs>\d+) runs? of (?P<least>\d+)(?: to (?P<most>\d+))? steps?")


@dataclass(frozen=True)
class Made:
    """An experiment as a sweep would make it: its study, all jobs, and one configuration for each variant."""

    study: Study
    jobs: list[list[str]]
    configs: list[DictConfig]
    sweep: SweepResult


@lru_cache
def made(name: str, size: str) -> Made:
    """All of it checked as the command line would be, apart from the data."""
    typed: list[Override] = [parse_override(f"experiment={name}"), parse_override(f"size={size}")]
    register_resolvers()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        study = study_of(compose("config", [f"experiment={name}", f"size={size}"], return_hydra_config=True))
        jobs, keys = jobs_of(typed, study), swept_keys(typed, study)
        configs = {variant: checked(job) for variant, job in {variant_of(as_mapping(job)): job for job in jobs}.items()}
        rates = list(dict.fromkeys(given["optimizer.lr"] for given in map(as_mapping, jobs) if "optimizer.lr" in given))
        choices = {variant: planned_job([], config, keys).choices for variant, config in configs.items()}
        runs = []
        for given in map(as_mapping, jobs):
            place = rates.index(given["optimizer.lr"]) if rates else BEST_OF_THEM
            lr = float(given["optimizer.lr"]) if rates else None
            loss = 2.0 + abs(place - BEST_OF_THEM)
            runs.append(
                made_run(choices=choices[variant_of(given)], lr=lr, seed=int(given["seed"]), final_val_loss=loss)
            )
    return Made(study, jobs, list(configs.values()), made_sweep(runs))


def as_mapping(job: list[str]) -> dict[str, str]:
    return dict(text.split("=", 1) for text in job)


def variant_of(given: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((key, value) for key, value in given.items() if key not in RATE_AND_SEED)


def checked(job: list[str]) -> DictConfig:
    check_groups([parse_override(text) for text in job])
    config = compose("config", job, return_hydra_config=True)
    check_targets(config, admitted_packages(job))
    check_schema(config, lambda: config)
    validate(config)
    return config


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_every_run_of_an_experiment_can_be_made(path: Path, size: str) -> None:
    found = made(path.stem, size)
    assert all(config.hydra.runtime.choices["size"] == size for config in found.configs)
    assert len({tuple(job) for job in found.jobs}) == len(found.jobs)
    folders = [run.folder for run in found.sweep.runs]
    assert len(set(folders)) == len(folders), "two arms have the same choices"
    assert len({run.seed for run in found.sweep.runs}) >= 3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_the_header_says_what_is_asked_expected_and_paid(path: Path, size: str) -> None:
    header = "\n".join(line.removeprefix("#").strip() for line in path.read_text().splitlines() if line.startswith("#"))
    assert re.search(r"^Question: .+\?", header, re.M) and re.search(r"^Expected: ", header, re.M)
    cost = COST.search(header.partition("Cost:")[2].partition(f"size={size}:")[2].replace("\n", " "))
    assert cost is not None
    found = made(path.stem, size)
    steps = [config.trainer.steps for config in found.configs]
    assert int(cost["runs"]) == len(found.jobs)
    assert (int(cost["least"]), int(cost["most"] or cost["least"])) == (min(steps), max(steps))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_claims_and_baseline_speak_of_runs_that_are_made(path: Path, size: str) -> None:
    """``study_of`` has checked how they are written; a selection without a run raises Undecidable."""
    found = made(path.stem, size)
    assert found.study.question and found.study.claims
    for claim in found.study.claims:
        for of_one_variant, where in selections(claim["criterion"]):
            (select_variant if of_one_variant else select)(found.sweep, where)
    if found.study.baseline is not None:
        select_variant(found.sweep, found.study.baseline)


def selections(criterion: Any) -> Iterator[tuple[bool, Mapping[str, Any]]]:
    """Every selection in a criterion, and whether it must be of one variant."""
    if isinstance(criterion, list):
        for part in criterion:
            yield from selections(part)
    elif isinstance(criterion, Mapping):
        for key, value in criterion.items():
            match key:
                case "of" | "than" if isinstance(value, Mapping):
                    yield True, value
                case "ascending":
                    yield from ((True, where) for where in value)
                case "where" | "relative_to":
                    yield key == "relative_to", value
            yield from selections(value)


TAGS = re.compile(r"tag: ([\w/*]+)")
WITH_STATISTICS = [path.stem for path in PATHS if TAGS.search(path.read_text())]


@pytest.mark.parametrize("name", WITH_STATISTICS)
def test_statistics_of_claims_are_recorded(name: str, command: Callable[..., Any], tmp_path: Path) -> None:
    """One step of the smallest network writes every tag that the experiment's claims read."""
    tags = set(TAGS.findall((CONFIG_FOLDER / "experiment" / f"{name}.yaml").read_text()))
    small = [
        "model.width=16", "model.num_heads=2", "model.num_layers=16", "model.context_length=16", "trainer.steps=1",
        "trainer.val_tokens=32", "trainer.batch_size=2", "tokenizer=bytes", "data.num_train_stories=20",
        "data.num_valid_stories=5", "logger=none", "attention/clamp=hard",
    ]  # fmt: skip
    said = command(f"experiment={name}", *small, "hydra.run.dir=run")
    assert said.exit_code == 0, said.err
    (record,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    for tag in tags:
        assert any(fnmatchcase(name, tag) for name in json.loads(record)), tag


def test_batch_sizes_see_equally_many_tokens() -> None:
    for size in SIZES:
        tokens = [config.trainer.steps * config.trainer.batch_size for config in made("batch_size", size).configs]
        assert max(tokens) <= 1.002 * min(tokens)


def test_the_gate_is_compared_at_equal_parameters() -> None:
    """A gated feed-forward has three matrices, one without two."""
    for size, at_least in (("cpu", 0.93), ("gpu", 0.98)):
        gated, plain = (OmegaConf.select(made("swiglu_ablation", size).configs[i], "model.ffn") for i in (0, 1))
        assert at_least < 3 * gated.hidden_width / (2 * plain.hidden_width) <= 1
