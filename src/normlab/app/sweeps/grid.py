"""Which runs a command line and an experiment's study ask for."""

from collections.abc import Sequence
from itertools import product

from hydra.core.override_parser.types import Override

from normlab.app.overrides import parse_override
from normlab.app.sweeps.spelled_out import spelled_out
from normlab.app.sweeps.study import Study
from normlab.core.errors import ConfigError


def jobs_of(typed: Sequence[Override], study: Study) -> list[list[str]]:
    """The overrides of every run: each arm of the study over all of the grid, what was typed in place of both.

    The last key of the grid varies fastest. Arms in which nothing is left of their difference are one.
    """
    fixed = [str(override.input_line) for override in typed if not override.is_sweep_override()]
    typed_keys = {override.get_key_element() for override in typed}
    swept = [override for override in typed if override.is_sweep_override()]
    swept += _grid(study, typed_keys)
    for override in swept:
        if not _single_values(override):
            raise ConfigError(f"A sweep must have at least one value; got {override.input_line}. Type seed=range(3).")
    arms = [tuple(f"{key}={value}" for key, value in arm.items() if key not in typed_keys) for arm in study.arms]
    combinations = list(product(*map(_single_values, swept)))
    return [[*fixed, *arm, *combination] for arm in dict.fromkeys(arms) for combination in combinations]


def swept_keys(typed: Sequence[Override], study: Study) -> list[str]:
    """The keys in which runs may differ, in the order in which they were asked for: arms, then grid."""
    typed_keys = {override.get_key_element() for override in typed}
    of_arms = [key for arm in study.arms for key in arm if key not in typed_keys]
    of_command = [override.get_key_element() for override in typed if override.is_sweep_override()]
    of_grid = [override.get_key_element() for override in _grid(study, typed_keys)]
    return list(dict.fromkeys([*of_arms, *of_command, *of_grid]))


def _grid(study: Study, typed_keys: set[str]) -> list[Override]:
    """What of the study's grid was not typed otherwise."""
    sweeps = [parse_override(spelled_out(f"{key}={value}")) for key, value in study.grid.items()]
    return [override for override in sweeps if override.get_key_element() not in typed_keys]


def _single_values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [str(override.input_line)]
    return [f"{override.get_key_element()}={choice}" for choice in override.sweep_string_iterator()]
