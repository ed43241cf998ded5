"""What ``checkpoint=`` names, whoever wrote it: weights by our names, an architecture, perhaps a tokenizer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor

from normlab.app.announce import announce
from normlab.app.hugging_face.folder import HuggingFaceFolder
from normlab.app.hugging_face.llama_form import Architecture
from normlab.app.recorded import recorded_config
from normlab.core.run_folder import RunFolder
from normlab.data.tokenizer import Tokenizer, load_tokenizer
from normlab.train.checkpoint import MODEL, read_state
from normlab.train.intact import find_checkpoint, run_of_checkpoint

HUGGING_FACE = "hf:"


class Saved(Protocol):
    """A model on the disk."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        ...

    def architecture(self, admitted: Sequence[str]) -> Architecture:
        """The groups model and attention that build it; raises ConfigError for code outside of ``admitted``."""
        ...

    def weights(self) -> dict[str, Tensor]:
        """By our names."""
        ...

    def weight_files(self) -> list[Path]:
        """Where the weights are."""
        ...

    def tokenizer(self) -> Tokenizer | None:
        """What made its tokens, None where that is not known."""
        ...


@dataclass(frozen=True)
class OwnCheckpoint:
    """A checkpoint in a run folder, as ``find_checkpoint`` gives it."""

    path: Path

    def architecture(self, admitted: Sequence[str]) -> Architecture:
        """As the run recorded it."""
        config = recorded_config(self._run.config, admitted)
        groups = OmegaConf.to_container(OmegaConf.masked_copy(config, ["model", "attention"]), resolve=True)
        assert isinstance(groups, dict)
        return groups  # type: ignore[return-value]

    def weights(self) -> dict[str, Tensor]:
        """Raises CheckpointError where a file is missing or was altered."""
        read_state(self.path)
        return load_file(self.path / MODEL)

    def weight_files(self) -> list[Path]:
        """The one file."""
        return [self.path / MODEL]

    def tokenizer(self) -> Tokenizer | None:
        """None where the run was trained on token files."""
        return load_tokenizer(self._run.tokenizer) if self._run.tokenizer.is_file() else None

    @property
    def _run(self) -> RunFolder:
        return RunFolder.existing(run_of_checkpoint(self.path), "checkpoint")


def open_saved(name: str) -> Saved:
    """What ``checkpoint=<name>`` means; raises CheckpointError where that is nothing."""
    if name.startswith(HUGGING_FACE):
        return HuggingFaceFolder.open(Path(name.removeprefix(HUGGING_FACE)))
    return OwnCheckpoint(find_checkpoint(Path(name), announce))
