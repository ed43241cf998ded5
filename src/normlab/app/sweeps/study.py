"""What an experiment asks: the node ``study`` of its YAML, as it stands before the first run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig, OmegaConf

from normlab.app.overrides import near
from normlab.core.errors import ConfigError
from normlab.report.criteria import check_criterion

KEYS = ("question", "baseline", "arms", "grid", "claims")
CLAIM_KEYS = {"id", "text", "criterion"}


@dataclass(frozen=True, kw_only=True)
class Study:
    """A question, the runs that answer it, and the claims that they are held against.

    Every arm, a mapping of override keys to one value each, is run over the whole ``grid``, whose values are written
    as one types a sweep. ``baseline`` holds the choices of the variant that the others are compared with.
    """

    question: str | None = None
    baseline: Mapping[str, str] | None = None
    arms: Sequence[Mapping[str, str]] = ({},)
    grid: Mapping[str, str] = field(default_factory=dict)
    claims: Sequence[Mapping[str, Any]] = ()


def study_of(config: DictConfig) -> Study:
    """The study in a configuration, an empty one where it has none; raises ConfigError where it cannot be run."""
    node = config.get("study")
    if node is None:
        return Study()
    found: Any = OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node
    _require(isinstance(found, dict), "study", "be a mapping", found)
    for key in map(str, found):
        meant = near(key, KEYS)
        _require(key in KEYS, "study", f"have none but {', '.join(KEYS)}" + (f" ({meant}?)" if meant else ""), key)
    arms, grid, baseline = found.get("arms") or [{}], found.get("grid") or {}, found.get("baseline")
    _require(isinstance(arms, list) and all(isinstance(arm, dict) for arm in arms), "study.arms", "list mappings", arms)
    _require(isinstance(grid, dict), "study.grid", "be a mapping from keys to sweeps", grid)
    _require(baseline is None or isinstance(baseline, dict), "study.baseline", "map choices to values", baseline)
    claims = found.get("claims") or []
    _check_claims(claims)
    return Study(
        question=found.get("question"),
        baseline=None if baseline is None else _as_typed_mapping(baseline),
        arms=[_as_typed_mapping(arm) for arm in arms],
        grid=_as_typed_mapping(grid),
        claims=claims,
    )


def _check_claims(claims: Any) -> None:
    _require(isinstance(claims, list), "study.claims", "be a list", claims)
    for index, claim in enumerate(claims):
        at = f"study.claims[{index}]"
        _require(isinstance(claim, dict) and set(claim) == CLAIM_KEYS, at, "have id, text and criterion", claim)
        check_criterion(claim["criterion"], f"{at}.criterion")
    names = [claim["id"] for claim in claims]
    _require(len(set(names)) == len(names), "study.claims", "have an id each of their own", names)


def _as_typed_mapping(found: Mapping[Any, Any]) -> dict[str, str]:
    return {str(key): as_typed(value) for key, value in found.items()}


def as_typed(value: Any) -> str:
    """A value of a YAML file as one would type it behind the = of an override."""
    if isinstance(value, list):
        return f"[{','.join(map(as_typed, value))}]"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return str(value)


def _require(holds: bool, at: str, what: str, got: object) -> None:
    if not holds:
        raise ConfigError(f"{at} must {what}; got {got!r}. See the files in conf/experiment/.")
