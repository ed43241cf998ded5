"""The schema of a configuration: the signatures of what it builds.

Every group's YAML names a ``_target_``; the target's keyword-only parameters (a dataclass's fields) are the legal
keys, and their annotations the legal values. There is no second list of keys that could drift from the code.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, OmegaConf

from normlab.app.overrides import near
from normlab.app.sites import chooser
from normlab.app.unknown_keys import unknown_key
from normlab.core.errors import ConfigError
from normlab.core.types import Bounds, CountOrZero

REFERENCE = re.compile(r"\$\{([\w.]+)\}")
CHECKED_ELSEWHERE = ("hydra", "study")
SEVERAL = ("logger",)
"""Groups of which several options may be chosen at once; each is under its own name."""
INSTANTIATION_KEYS = ("_target_", "_partial_", "_args_", "_convert_", "_recursive_")


@dataclass(frozen=True, kw_only=True)
class TopLevel:
    """The keys that belong to no group."""

    seed: CountOrZero
    resume: str | None
    reuse: Literal["sweep", "global"]
    cache: str
    allow_targets: Sequence[str]


def check_schema(config: DictConfig, compose_defaults: Callable[[], DictConfig]) -> None:
    """Raise ConfigError at the first value of a wrong type or out of range, at an unknown key or a missing one.

    ``compose_defaults`` gives the configuration without overrides; it is asked for a legal value only when one
    has to be suggested.
    """
    SchemaCheck(config, compose_defaults).check_all()


@dataclass(frozen=True)
class SchemaCheck:
    """One walk over a configuration."""

    config: DictConfig
    compose_defaults: Callable[[], DictConfig]

    def check_all(self) -> None:
        """Check the top-level keys, then every group."""
        top_level = get_type_hints(TopLevel, include_extras=True)
        for name, annotation in top_level.items():
            self._check_value(name, annotation)
        for name in map(str, self.config):
            if name in top_level or name in CHECKED_ELSEWHERE:
                continue
            if name in SEVERAL and "_target_" not in self.config[name]:
                self._check_children(name)
            elif OmegaConf.is_dict(self.config._get_node(name)):
                self._check_node(name)
            elif name not in list(self.compose_defaults()):  # a key that a task has at the top is there by default
                raise unknown_key(name, self.compose_defaults())

    def _check_children(self, key: str) -> None:
        """Check the options that were chosen of a group."""
        for name in self.config[key]:
            if not OmegaConf.is_dict(self.config[key]._get_node(name)):
                raise unknown_key(f"{key}.{name}", self.compose_defaults())
            self._check_node(f"{key}.{name}")

    def _check_node(self, key: str) -> None:
        """Check the mapping at ``key`` against the signature of its target, and so on downwards."""
        node = OmegaConf.select(self.config, key)
        if "_target_" not in node:
            hint = f" Type {chooser(key)}=… first." if chooser(key) else ""
            raise ConfigError(
                f"{key} must name what it builds in _target_; got the keys {', '.join(map(str, node))}.{hint}"
            )
        legal, takes_others = _legal_keys(node._target_, key)
        given = [str(name) for name in node if name not in INSTANTIATION_KEYS]
        for name in given:
            if name not in legal and not takes_others:
                told = f"the keys of {key} are: {', '.join(legal)}" if legal else f"{key} takes none"
                meant = near(name, list(legal))
                hint = f"Type {key}.{meant}=…" if meant else f"Remove {key}.{name}."
                raise ConfigError(f"There is no key '{key}.{name}'; {told}. {hint}")
            self._check_value(f"{key}.{name}", legal.get(name, Any))
        for name in set(legal) - set(given):
            raise ConfigError(f"{key}.{name} must be given. Type {key}.{name}=… or look into conf/ for what it needs.")

    def _check_value(self, key: str, annotation: Any) -> None:
        shown = _key_people_type(self.config, key)
        if OmegaConf.is_missing(self.config, shown):
            raise ConfigError(f"{shown} must be given. Type {shown}=…")
        value = OmegaConf.select(self.config, key)
        if isinstance(value, DictConfig) and get_origin(annotation) is Mapping:
            for name in value:
                self._check_value(f"{key}.{name}", get_args(annotation)[1])
            return
        if isinstance(value, DictConfig):
            self._check_node(key)
            return
        value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        demand = unmet_demand(value, annotation)
        if demand is not None:
            raise ConfigError(
                f"{shown} must be {demand}; got {_as_typed(value)}.{self._hint(shown, value, annotation)}"
            )

    def _hint(self, key: str, value: Any, annotation: Any) -> str:
        """What to type instead: the nearest of a few choices, else the default, where there is one that is legal."""
        if choices := _choices(annotation):
            meant = _nearest_choices(value, choices)
            if get_origin(annotation) is Literal:
                return f" Try {key}={meant[0]}." if meant else f" Type {key}=… with one of them."
            return f" Try {key}=[{','.join(meant)}]." if meant else f" Type {key}=[…] with some of them."
        defaults = self.compose_defaults()
        if OmegaConf.is_missing(defaults, key):
            return ""
        default = OmegaConf.select(defaults, key)
        default = OmegaConf.to_container(default) if OmegaConf.is_config(default) else default
        is_legal = default not in (None, "") and unmet_demand(default, annotation) is None
        return f" Try {key}={default if isinstance(default, str) else _as_typed(default)}." if is_legal else ""


def unmet_demand(value: Any, annotation: Any) -> str | None:
    """None where the value is legal for the annotation, else what it must be, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Any or annotation is inspect.Parameter.empty:
        return None
    if origin is Annotated:
        return _unmet_bounds(value, arguments[0], [extra for extra in arguments[1:] if isinstance(extra, Bounds)])
    if origin in (Union, UnionType):
        demands = [unmet_demand(value, option) for option in arguments]
        return None if None in demands else " or ".join(dict.fromkeys(str(demand) for demand in demands))
    if origin is Literal:
        return None if value in arguments else f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return _unmet_items(value, list(arguments), f"a list of {len(arguments)} values")
    if origin is not None and isinstance(origin, type) and issubclass(origin, Sequence):
        items = value if isinstance(value, list | tuple) else []
        if choices := _choices(annotation):
            is_legal = isinstance(value, list | tuple) and all(item in choices for item in value)
            return None if is_legal else f"a list of any of {', '.join(choices)}"
        return _unmet_items(value, [arguments[0]] * len(items), "a list, as in [a,b]")
    return _unmet_type(value, annotation)


def _unmet_type(value: Any, annotation: Any) -> str | None:
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}
    if annotation not in words:
        return "a group's option (its path takes slashes: see --help)"
    if annotation is float:
        return None if isinstance(value, int | float) and not isinstance(value, bool) else words[float]
    is_right = isinstance(value, annotation) and not (annotation is int and isinstance(value, bool))
    return None if is_right else words[annotation]


def _unmet_bounds(value: Any, annotation: Any, bounds: list[Bounds]) -> str | None:
    demand = f"{_unmet_type(None, annotation)} {' and '.join(map(str, bounds))}"
    is_legal = _unmet_type(value, annotation) is None and all(bound.admits(value) for bound in bounds)
    return None if is_legal else demand


def _unmet_items(value: Any, annotations: list[Any], shape: str) -> str | None:
    if not isinstance(value, list | tuple) or len(value) != len(annotations):
        return shape
    demands = [unmet_demand(item, annotation) for item, annotation in zip(value, annotations, strict=True)]
    return next((f"{shape}, each {demand}" for demand in demands if demand is not None), None)


def _choices(annotation: Any) -> list[str]:
    """The names that the annotation is one of, or a list of."""
    is_sequence = isinstance(get_origin(annotation), type)
    named = next(iter(get_args(annotation)), None) if is_sequence else annotation
    return [str(name) for name in get_args(named)] if get_origin(named) is Literal else []


def _nearest_choices(value: Any, choices: list[str]) -> list[str]:
    """For every name in the value itself, else the choices that begin with it (ffn), else the nearest, if any."""
    meant: dict[str, None] = {}
    for name in map(str, value if isinstance(value, list) else [value]):
        same_start = [choice for choice in choices if name and choice.startswith(name)]
        nearest = [name] if name in choices else same_start or [near(name, choices)]
        meant.update((choice, None) for choice in nearest if choice is not None)
    return list(meant)


def _legal_keys(target: str, key: str) -> tuple[dict[str, Any], bool]:
    """The configurable parameters of a target with their annotations, and whether it takes any others."""
    module, _, name = str(target).rpartition(".")
    try:
        built = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"{key}._target_ must name something that can be imported; got '{target}' ({error})."
        ) from None
    parameters = inspect.signature(built).parameters.values()
    hints = get_type_hints(built.__init__ if inspect.isclass(built) else built, include_extras=True)
    legal = {p.name: hints.get(p.name, Any) for p in parameters if p.kind is p.KEYWORD_ONLY}
    return legal, any(p.kind is p.VAR_KEYWORD for p in parameters)


def _key_people_type(config: DictConfig, key: str) -> str:
    """The key itself, or the one that its value refers to, as in ``task.prompt: ${prompt}``."""
    parent_key, _, name = key.rpartition(".")
    parent = OmegaConf.select(config, parent_key) if parent_key else config
    raw = parent._get_node(name)
    reference = REFERENCE.fullmatch(str(raw._value())) if raw is not None and raw._is_interpolation() else None
    return reference[1] if reference else key


def _as_typed(value: Any) -> str:
    """A value as one would type it on the command line."""
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(_as_typed(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return f"'{value}'" if isinstance(value, str) else str(value)
