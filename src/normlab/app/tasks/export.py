"""task=export: a trained model and its tokenizer as a folder that other programs open."""

from pathlib import Path
from typing import Literal

from omegaconf import DictConfig

from normlab.app.announce import announce, shown_path
from normlab.app.checkpoints import load_trained
from normlab.app.hugging_face.writing import write_folder
from normlab.core.errors import ConfigError
from normlab.core.run_folder import RunFolder
from normlab.train.hardware import choose_device


def export(config: DictConfig, folder: RunFolder, *, checkpoint: str, format: Literal["hf"], output: str | None) -> int:
    """Write the folder, whole or not at all; say what in the model needs code of its own there.

    Raises ConfigError where the folder holds something already.
    """
    trained = load_trained(checkpoint, choose_device("cpu"))
    target = _free_folder(checkpoint, trained.folder, output, format)
    differences = write_folder(trained, target)
    if trained.tokenizer is None:
        announce("note: no tokenizer is written: the model was trained on tokens without one.")
    if differences:
        print(f"not a Llama, so its code is in the folder (trust_remote_code=True): {'; '.join(differences)}")
    else:
        print("a Llama: transformers opens it as LlamaForCausalLM")
    print(f"exported to: {shown_path(target.absolute())}")
    return 0


def _free_folder(checkpoint: str, run: RunFolder | None, output: str | None, name: str) -> Path:
    """``output``, or else a folder of the name in the run's."""
    if output is None and run is None:
        raise ConfigError(f"output must name a new folder where {checkpoint} is no run. Type output=<folder>.")
    path = run.path / name if output is None and run is not None else Path(str(output))
    if path.is_file() or (path.is_dir() and any(path.iterdir())):
        raise ConfigError(f"output must be a new or an empty folder; '{path}' is there. Type output=<folder>.")
    return path
