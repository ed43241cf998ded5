"""All checks of a command line, made before Hydra writes anything: a wrong one leaves no trace."""

from argparse import Namespace
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from normlab.app.announce import announce
from normlab.app.auto_resume import with_found_run
from normlab.app.data_checks import check_data
from normlab.app.folders import claimed_folder
from normlab.app.options import CONFIG_FOLDER
from normlab.app.overrides import check_groups, check_single_values, group_options, parse_override
from normlab.app.resolvers import UNNAMED_KEYS
from normlab.app.resume import AUTO, check_same_experiment
from normlab.app.schema import check_schema
from normlab.app.targets import admitted_packages, check_targets
from normlab.app.unknown_keys import explain
from normlab.app.validate import validate
from normlab.core.errors import ConfigError


def check_command_line(arguments: Sequence[str]) -> list[str]:
    """Compose and check every job that the arguments ask for; raise a UserError at the first fault.

    Returns the arguments, with the folder that was claimed for what they ask.
    """
    flags = _read_flags(arguments)
    if flags.help or flags.hydra_help or flags.info or flags.shell_completion:
        return list(arguments)
    texts = list(flags.overrides)
    if flags.config_dir is not None:
        texts.append(f"hydra.searchpath=[{Path(flags.config_dir).absolute()}]")
    overrides = [parse_override(text) for text in texts]
    folder = CONFIG_FOLDER if flags.config_path is None else Path(flags.config_path).absolute()
    with initialize_config_dir(str(folder), version_base="1.3", job_name="normlab"):
        check_groups(overrides)
        if not flags.multirun:
            check_single_values(overrides)
        jobs = _jobs(overrides) if flags.multirun else [texts]
        notes: dict[str, None] = {}
        configs = [_checked(flags.config_name or "config", job, flags.cfg is not None, notes) for job in jobs]
        found = None
        if configs[0].get("resume") == AUTO and not flags.cfg:
            found = with_found_run(arguments, configs[0], admitted_packages(texts))
    if found is not None:
        return check_command_line(found)
    for note in notes:
        announce(note)
    if flags.cfg:
        return list(arguments)
    constant = [_unnamed_keys(overrides)] if flags.multirun else []
    return [*arguments, *constant, *claimed_folder(configs[0], flags.multirun)]


def _unnamed_keys(overrides: Sequence[Override]) -> str:
    """The override that keeps what is the same in all runs of a sweep out of their names; nothing for a single run."""
    constant = [override.get_key_element() for override in overrides if not override.is_sweep_override()]
    is_sweep = len(constant) < len(overrides)
    return f"{UNNAMED_KEYS}={[key.lstrip('+~') for key in constant] if is_sweep else []}".replace(" ", "")


def _read_flags(arguments: Sequence[str]) -> Namespace:
    """Hydra's flags, and the other arguments in ``overrides``; raises ConfigError for a flag that does not exist."""
    flags, unknown = get_args_parser().parse_known_args(list(arguments))
    if unknown:
        raise ConfigError(
            f"Flags must be Hydra's (--multirun, --cfg, --help …); got {unknown[0]}. "
            f"Set a value without dashes: key=value."
        )
    return flags


def _jobs(overrides: Sequence[Override]) -> Iterator[list[str]]:
    """The overrides of every job of a sweep: the product of the comma-separated choices."""
    choices = [
        [f"{override.get_key_element()}={choice}" for choice in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [str(override.input_line)]
        for override in overrides
    ]
    yield from map(list, product(*choices))


def _checked(config_name: str, overrides: list[str], only_shown: bool, notes: dict[str, None]) -> DictConfig:
    """The configuration of one job, all of it checked; what is odd but legal is added to ``notes``, once."""

    def compose_defaults() -> DictConfig:
        """The chosen options without the values that were set."""
        return compose(config_name, [text for text in overrides if group_options(text.partition("=")[0].lstrip("+"))])

    try:
        config = compose(config_name, overrides, return_hydra_config=True)
    except (ConfigCompositionException, OmegaConfBaseException) as error:
        raise explain(error, compose_defaults) from None
    admitted = admitted_packages(overrides)
    check_targets(config, admitted)
    check_schema(config, compose_defaults)
    validate(config)
    if not only_shown and "checkpoint" not in config:
        notes.update(dict.fromkeys(check_data(config)))
    if config.get("resume") not in (None, AUTO):
        check_same_experiment(config, admitted)
    return config
