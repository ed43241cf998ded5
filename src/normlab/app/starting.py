"""Where a run's weights start when ``checkpoint`` is given: those that it and the model both have are taken over."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from normlab.app.saved import Saved, open_saved
from normlab.app.targets import admitted_packages, target_of
from normlab.core.errors import CheckpointError, ConfigError
from normlab.data.disk import Announce
from normlab.data.prepare import Corpus
from normlab.data.source import Source
from normlab.data.tokenizer import Tokenizer
from normlab.model.language_model import LanguageModel
from normlab.model.linear import Linear

OF_VOCABULARY = ("token_embedding.weight", "head.weight")
SIZES = ("width", "num_layers", "num_heads", "tied_embedding")
CONSTANTS = {"position": "theta", "norm": "eps"}
"""What a part may have else than where the run starts, which is worth saying."""


def tokenizer_of_checkpoint(source: Source, cache: Path, announce: Announce, *, checkpoint: str | None) -> Tokenizer:
    """The tokenizer that the checkpoint was trained with (``tokenizer=from_checkpoint``)."""
    if checkpoint is None:
        raise ConfigError("tokenizer=from_checkpoint needs what the run starts from. Type checkpoint=… too.")
    tokenizer = open_saved(checkpoint).tokenizer()
    if tokenizer is None:
        raise CheckpointError(f"{checkpoint} has no tokenizer that can be read. Type tokenizer=… with another.")
    return tokenizer


def canonical_start(config: DictConfig) -> dict[str, Any]:
    """What the starting point adds to the canonical configuration: its content; nothing where there is none."""
    name = config.get("checkpoint")
    if name is None:
        return {}
    saved = open_saved(str(name))
    found: dict[str, Any] = {"start": _digest_of_weights(str(name), _versions(saved.weight_files()))}
    if config.tokenizer._target_ == target_of(tokenizer_of_checkpoint):  # type: ignore[arg-type]
        tokenizer = tokenizer_of_checkpoint(None, Path(), print, checkpoint=str(name))  # type: ignore[arg-type]
        found["tokenizer"] = {"_target_": config.tokenizer._target_, "identity": tokenizer.identity()}
    return found


@dataclass(frozen=True)
class StartingPoint:
    """A model on the disk whose sizes are those of the run's model."""

    name: str
    saved: Saved

    def fill(self, model: LanguageModel, corpus: Corpus, announce: Announce) -> None:
        """Copy what both have into the model and say what only one has, which stays as drawn or is left.

        Of a vocabulary that was filled up, the tokens that the tokenizer has. Raises CheckpointError where the run's
        tokens are not the checkpoint's.
        """
        self._check_tokens(corpus)
        weights = self.saved.weights()
        for name in OF_VOCABULARY:
            if name in weights:
                weights[name] = self._cut_to_vocabulary(weights[name], model.vocab_size)
        own = model.state_dict()
        taken = {name for name in own if name in weights and weights[name].shape == own[name].shape}
        with torch.no_grad():
            for name in taken:
                own[name].copy_(weights[name])
            _set_up_anew(model, own.keys() - taken)
        announce(
            f"starting from {self.name}: {len(taken)} of {len(own)} weights taken over"
            f"{_listed('only here, as drawn', own.keys() - taken)}{_listed('only there', weights.keys() - taken)}"
        )

    def _check_tokens(self, corpus: Corpus) -> None:
        theirs = self.saved.tokenizer()
        ours = corpus.tokenizer
        if theirs is not None and ours is not None and theirs.identity() != ours.identity():
            raise CheckpointError(
                f"The run must have the tokenizer that {self.name} was trained with; it has another. "
                "Type tokenizer=from_checkpoint."
            )

    def _cut_to_vocabulary(self, weight_VD: Tensor, vocab_size: int) -> Tensor:
        if len(weight_VD) < vocab_size:
            raise CheckpointError(
                f"{self.name} must know all {vocab_size:,} tokens of the run; it knows {len(weight_VD):,}. "
                "Type tokenizer=from_checkpoint."
            )
        return weight_VD[:vocab_size]


def starting_point(config: DictConfig, announce: Announce) -> StartingPoint | None:
    """What the run starts from, if anything; raises ConfigError with what to type where the sizes do not agree."""
    name = config.get("checkpoint")
    if name is None:
        return None
    saved = open_saved(str(name))
    theirs = saved.architecture(admitted_packages(HydraConfig.get().overrides.task))["model"]
    ours: Any = OmegaConf.to_container(config.model, resolve=True)
    kind = ours["ffn"]["_target_"]
    if wanted := _changed(_sizes(ours, kind), _sizes(theirs, kind)):
        raise ConfigError(f"The model must be of the sizes of {name}, where the run starts. Type {wanted}.")
    if others := _changed(_constants(ours), _constants(theirs)):
        announce(f"note: {name} was made with {others}.")
    return StartingPoint(str(name), saved)


def _changed(ours: dict[str, Any], theirs: dict[str, Any]) -> str:
    """As one would type them, their values of what both have and that are not the same."""
    changed = {key: value for key, value in theirs.items() if ours.get(key, value) != value}
    return " ".join(f"{key}={_as_typed(value)}" for key, value in changed.items())


def _sizes(model: dict[str, Any], ffn: str) -> dict[str, Any]:
    """What must agree, by the keys that people type; the hidden width where the feed-forward is of the kind ``ffn``."""
    sizes = {f"model.{name}": model[name] for name in SIZES}
    is_same_kind = model["ffn"]["_target_"] == ffn
    return sizes | ({"model.ffn.hidden_width": model["ffn"].get("hidden_width")} if is_same_kind else {})


def _constants(model: dict[str, Any]) -> dict[str, Any]:
    return {f"model.{part}.{name}": model[part][name] for part, name in CONSTANTS.items() if name in model[part]}


def _set_up_anew(model: LanguageModel, not_taken: Iterable[str]) -> None:
    """What a linear map computes from its weight follows the new weight, unless it was taken over as well."""
    modules = {name.rpartition(".")[0] for name in not_taken}
    for name, module in model.named_modules():
        if isinstance(module, Linear) and name in modules:
            module.weight_was_drawn()


def _listed(title: str, names: Iterable[str]) -> str:
    """The names, those of all layers as one."""
    of_layers = sorted({re.sub(r"^layers\.\d+\.", "layers.*.", name) for name in names})
    return f"; {title}: {', '.join(of_layers)}" if of_layers else ""


def _as_typed(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _versions(files: Sequence[Path]) -> tuple[tuple[str, int, int], ...]:
    """What changes when a file does, besides its content."""
    return tuple((str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files)


@lru_cache(maxsize=16)
def _digest_of_weights(name: str, versions: tuple[tuple[str, int, int], ...]) -> str:
    """SHA-256 of all weights with their names and shapes, whatever files they are in."""
    digest = sha256()
    for key, weight in sorted(open_saved(name).weights().items()):
        digest.update(f"{key} {tuple(weight.shape)} {weight.dtype}".encode())
        digest.update(weight.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
