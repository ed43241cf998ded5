"""A folder of transformers as a checkpoint: a Llama, or what normlab itself exported with its code."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from normlab.app.announce import announce
from normlab.app.hugging_face.llama_config import num_key_value_heads, sizes_in
from normlab.app.hugging_face.llama_form import Architecture, llama_architecture
from normlab.app.hugging_face.llama_weights import from_llama, names_of_llama
from normlab.app.hugging_face.tokenizer_files import read_tokenizer
from normlab.app.targets import check_targets
from normlab.core.errors import CheckpointError, DataError
from normlab.core.strict_json import read_strict_json
from normlab.data.tokenizer import Tokenizer

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
PREFIX = "language_model."
COMPUTED = ("rotary_emb.inv_freq",)
"""What older files hold besides weights."""


@dataclass(frozen=True)
class HuggingFaceFolder:
    """What is in a folder; weights and tokenizer are read when they are asked for."""

    path: Path
    config: Mapping[str, Any]

    @classmethod
    def open(cls, path: Path) -> "HuggingFaceFolder":
        """Raises CheckpointError for a folder whose model is not one that can be read."""
        if not (path / CONFIG).is_file():
            raise CheckpointError(
                f"checkpoint=hf: must name a folder of Hugging Face transformers, one with a {CONFIG}; got '{path}'. "
                "Type checkpoint=hf:<folder>, or checkpoint=<run folder> for a run of normlab's."
            )
        config = _json_object(path / CONFIG)
        if config.get("model_type") not in ("llama", "normlab"):
            raise CheckpointError(
                f"{path / CONFIG} must be of model_type llama, or of a model that normlab exported; got "
                f"'{config.get('model_type')}'. Name the folder of a Llama."
            )
        return cls(path, config)

    def architecture(self, admitted: Sequence[str]) -> Architecture:
        """The groups ``model`` and ``attention`` of a configuration that builds this model.

        Raises ConfigError where it names code outside of the ``admitted`` packages.
        """
        if self.config["model_type"] == "llama":
            return llama_architecture(sizes_in(self.config, self.path / CONFIG))
        architecture = self.config.get("architecture")
        if not isinstance(architecture, dict) or architecture.keys() != {"model", "attention"}:
            raise CheckpointError(f"{self.path / CONFIG} must hold an architecture; it does not. Export the run again.")
        check_targets(OmegaConf.create(architecture), admitted)
        return architecture

    def weights(self) -> dict[str, Tensor]:
        """By our names; raises CheckpointError where the files hold other weights than the configuration says."""
        found = {name: weight for name, weight in self._tensors().items() if not name.endswith(COMPUTED)}
        if self.config["model_type"] == "normlab":
            return {name.removeprefix(PREFIX): weight for name, weight in found.items()}
        sizes = sizes_in(self.config, self.path / CONFIG)
        names = set(names_of_llama(sizes.num_layers, is_tied=sizes.is_tied).values())
        if sizes.is_tied:
            found.pop("lm_head.weight", None)
        if names != found.keys():
            name = min(names ^ found.keys())
            where = "the weights have" if name in found else f"{CONFIG} tells of"
            raise CheckpointError(
                f"{self.path} must hold the weights of the Llama that {CONFIG} tells of; only {where} {name}. "
                "Download the folder again, or name another."
            )
        return from_llama(
            found,
            num_layers=sizes.num_layers,
            num_heads=sizes.num_heads,
            num_key_value_heads=num_key_value_heads(self.config),
            is_tied=sizes.is_tied,
        )

    def tokenizer(self) -> Tokenizer | None:
        """The tokenizer, None where there is none, or none that can be read, which is said."""
        try:
            return read_tokenizer(self.path)
        except DataError as error:
            announce(f"note: the tokenizer is left out: {error}")
            return None

    def _tensors(self) -> dict[str, Tensor]:
        """All tensors by the names in the files."""
        tensors: dict[str, Tensor] = {}
        for file in self.weight_files():
            try:
                tensors |= load_file(file)
            except (SafetensorError, ValueError, OSError) as error:
                raise CheckpointError(f"{file} is no valid safetensors file: {error}. Download it again.") from None
        return tensors

    def weight_files(self) -> list[Path]:
        """The one file, or those that the index names."""
        if (self.path / WEIGHTS).is_file():
            return [self.path / WEIGHTS]
        if (self.path / INDEX).is_file():
            shards = _json_object(self.path / INDEX).get("weight_map", {})
            names = sorted(set(shards.values())) if isinstance(shards, dict) else []
            if not names or any(not isinstance(name, str) or Path(name).name != name for name in names):
                raise CheckpointError(f"{self.path / INDEX} must name files beside it; it does not. Download it again.")
            return [self.path / name for name in names]
        if any(self.path.glob("*.bin")) or any(self.path.glob("*.pt*")):
            unsafe, safe = str(self.path), f"{self.path}-safe"
            raise CheckpointError(
                f"{unsafe} must hold {WEIGHTS}; its weights are pickled, which can run any code, and are never opened. "
                'Where you trust it, type python -c "from transformers import AutoModelForCausalLM as Model; '
                f'Model.from_pretrained({unsafe!r}).save_pretrained({safe!r})" and take {safe}.'
            )
        raise CheckpointError(f"{self.path} must hold {WEIGHTS}; it does not. Download the folder again.")


def _json_object(path: Path) -> dict[str, Any]:
    try:
        content = read_strict_json(path)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is no valid JSON: {error}. Download it again.") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object; it does not. Download it again.")
    return content
