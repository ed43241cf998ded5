"""From overrides to a configuration, quickly for the many command lines of a sweep."""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path

from hydra import compose
from hydra._internal.config_repository import ConfigRepository
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from normlab.app.overrides import group_options, parse_override
from normlab.app.unknown_keys import explain


def look_also_in(folder: Path) -> None:
    """Have options found in a folder of the user's own, too, as Hydra does for ``--config-dir``."""
    loader = GlobalHydra.instance().config_loader()
    search_path = loader.get_search_path()
    search_path.prepend("command-line", f"file://{folder.absolute()}", anchor="schema")
    loader.repository = ConfigRepository(config_search_path=search_path)  # type: ignore[attr-defined]


class Composer:
    """Composes configurations with Hydra's own part; those that differ in plain values only are composed once.

    A value is set in the composed configuration exactly as Hydra itself sets it, after all options are chosen.
    """

    def __init__(self, config_name: str):
        self._config_name = config_name
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def __call__(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration; raises ConfigError where the overrides do not make one."""
        parsed = [parse_override(text) for text in overrides]
        others = tuple(override.input_line or "" for override in parsed if not _is_plain_value(override))
        try:
            if others not in self._composed:
                self._composed[others] = compose(self._config_name, list(others), return_hydra_config=True)
            config = deepcopy(self._composed[others])
            for override in filter(_is_plain_value, parsed):
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except (ConfigCompositionException, OmegaConfBaseException):
            return self._composed_by_hydra(overrides)  # which has the words for what is wrong
        with read_write(config.hydra):
            config.hydra.overrides.task = [text for text in overrides if not text.lstrip("+~").startswith("hydra")]
        return config

    def defaults(self, overrides: Sequence[str]) -> DictConfig:
        """The chosen options without the values that were set."""
        options = [text for text in overrides if group_options(text.partition("=")[0].lstrip("+"))]
        return compose(self._config_name, options)

    def _composed_by_hydra(self, overrides: Sequence[str]) -> DictConfig:
        try:
            return compose(self._config_name, list(overrides), return_hydra_config=True)
        except (ConfigCompositionException, OmegaConfBaseException) as error:
            raise explain(error, partial(self.defaults, overrides)) from None


def _is_plain_value(override: Override) -> bool:
    """Whether the override changes one existing value of the project's own part."""
    is_change = not (override.is_add() or override.is_force_add() or override.is_delete())
    is_own = override.package is None and not override.key_or_group.startswith("hydra")
    is_value = not group_options(override.key_or_group) and not isinstance(override.value(), dict)
    return is_change and is_own and is_value
