"""All checks of a command line, made before Hydra writes anything: a wrong one leaves no trace."""

from argparse import Namespace
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from hydra import initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from normlab.app.announce import announce
from normlab.app.auto_resume import with_found_run
from normlab.app.composing import Composer, look_also_in
from normlab.app.config_checks import check_config
from normlab.app.data_checks import check_data
from normlab.app.devices import check_packed, check_start
from normlab.app.folders import claimed_folder, sweep_folder
from normlab.app.launchers import check_launcher
from normlab.app.machine import choice_in_words
from normlab.app.options import CONFIG_FOLDER
from normlab.app.overrides import check_groups, check_single_values, parse_override
from normlab.app.resolvers import UNNAMED_KEYS
from normlab.app.resume import AUTO, check_same_experiment
from normlab.app.sweeps.grid import jobs_of, swept_keys
from normlab.app.sweeps.planning import without_searched_rates, write_plan
from normlab.app.sweeps.spelled_out import spelled_out
from normlab.app.sweeps.study import Study, study_of
from normlab.app.targets import admitted_packages
from normlab.app.validate import TRAIN
from normlab.core.errors import ConfigError
from normlab.train.distributed.place import place_in_torchrun


def check_command_line(arguments: Sequence[str]) -> list[str]:
    """Compose and check every job that the arguments ask for; raise a UserError at the first fault.

    Returns the arguments, with the folder that was claimed for what they ask. In the folder of a sweep its plan is
    written down.
    """
    flags = _read_flags(arguments)
    if flags.help or flags.hydra_help or flags.info or flags.shell_completion:
        return list(arguments)
    texts = [spelled_out(text) for text in flags.overrides]
    overrides = [parse_override(text) for text in texts]
    folder = CONFIG_FOLDER if flags.config_path is None else Path(flags.config_path).absolute()
    composed = Composer(flags.config_name or "config")
    with initialize_config_dir(str(folder), version_base="1.3", job_name="normlab"):
        check_launcher(overrides)
        if flags.config_dir is not None:
            look_also_in(Path(flags.config_dir))
        check_groups(overrides)
        if flags.multirun:
            return _checked_sweep(list(map(spelled_out, arguments)), overrides, composed, flags.cfg is not None)
        check_single_values(overrides)
        notes: dict[str, None] = {}
        config = _checked(composed, texts, flags.cfg is not None, notes)
        if not flags.cfg:
            check_start(config, place_in_torchrun(), is_multirun=False)
        found = None
        if config.get("resume") == AUTO and not flags.cfg:
            found = with_found_run(arguments, config, admitted_packages(texts))
    if found is not None:
        return check_command_line(found)
    _announce_all(notes)
    return list(arguments) if flags.cfg else [*arguments, *claimed_folder(config, is_multirun=False)]


def _checked_sweep(
    arguments: Sequence[str], overrides: Sequence[Override], composed: Composer, only_shown: bool
) -> list[str]:
    """The arguments, with the sweep's folder; every run was checked, and the plan of them is in it."""
    notes: dict[str, None] = {}
    (first, *_) = jobs_of(overrides, Study())
    asked = composed(first)
    study = without_searched_rates(study_of(asked), asked, overrides)
    keys, jobs = swept_keys(overrides, study), jobs_of(overrides, study)
    unnamed = f"{UNNAMED_KEYS}={_constant_keys(overrides) if keys else []}".replace(" ", "")
    check_groups([parse_override(text) for text in dict.fromkeys(text for job in jobs for text in job)])
    configs = [_checked(composed, [*job, unnamed], only_shown, notes) for job in jobs]
    if only_shown:
        return list(arguments)
    for config in configs:
        check_start(config, place_in_torchrun(), is_multirun=True)
        check_packed(config)
    _announce_all(notes)
    claimed = claimed_folder(configs[0], is_multirun=True)
    if configs[0].task._target_ == TRAIN:
        write_plan(arguments, study, jobs, configs, keys, sweep_folder(configs[0], claimed))
    return [*arguments, unnamed, *claimed]


def _announce_all(notes: Iterable[str]) -> None:
    for note in notes:
        announce(note)


def _constant_keys(overrides: Sequence[Override]) -> list[str]:
    """The keys that are the same in all runs of a sweep, and so are kept out of their names."""
    constant = [override.get_key_element() for override in overrides if not override.is_sweep_override()]
    return [key.lstrip("+~") for key in constant]


def _read_flags(arguments: Sequence[str]) -> Namespace:
    """Hydra's flags, and the other arguments in ``overrides``; raises ConfigError for a flag that does not exist."""
    parser = get_args_parser()
    parser.error = _refuse_flags  # type: ignore[method-assign]  # its own would print how all flags are used
    flags, unknown = parser.parse_known_args(list(arguments))
    if unknown and not unknown[0].startswith("-"):
        raise ConfigError(f"Flags must stand together before all else; got {unknown[0]} behind one. Put flags first.")
    if unknown:
        raise ConfigError(
            f"Flags must be Hydra's (--multirun, --cfg, --help …); got {unknown[0]}. "
            f"Set a value without dashes: key=value."
        )
    _check_modes(flags)
    return flags


def _check_modes(flags: Namespace) -> None:
    """Raise ConfigError where two flags ask for different things, or completion for no shell."""
    modes = (flags.run, flags.multirun, flags.cfg is not None, flags.info is not None, flags.shell_completion)
    if sum(modes) > 1:
        raise ConfigError("Only one of --multirun, --cfg, --info and --shell-completion can be given; got several.")
    asked = ("install=", "uninstall=", "query=")
    if flags.shell_completion and not any(text.startswith(asked) for text in flags.overrides):
        raise ConfigError(
            f"--shell-completion takes a shell; got {' '.join(flags.overrides) or 'none'}. "
            "Type --shell-completion install=bash, install=fish or install=zsh."
        )


def _refuse_flags(message: str) -> NoReturn:
    raise ConfigError(f"Flags must be given as Hydra takes them; {message}. Type --hydra-help for all of them.")


def _checked(composed: Composer, overrides: list[str], only_shown: bool, notes: dict[str, None]) -> DictConfig:
    """The configuration of one job, all of it checked; what is odd but legal is added to ``notes``, once."""
    config = composed(overrides)
    admitted = admitted_packages(overrides)
    check_config(config, admitted, partial(composed.defaults, overrides))
    notes.update(dict.fromkeys(choice_in_words(config)))
    if not only_shown and "checkpoint" not in config.task:
        notes.update(dict.fromkeys(check_data(config)))
    if config.get("resume") not in (None, AUTO):
        check_same_experiment(config, admitted)
    return config
