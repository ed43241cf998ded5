"""A trained model as a folder that transformers opens."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from safetensors.torch import save_file
from torch import Tensor

from normlab.app.canonical import plain
from normlab.app.checkpoints import Trained
from normlab.app.hugging_face.beyond_llama import beyond_llama
from normlab.app.hugging_face.card import model_card
from normlab.app.hugging_face.configs import generation_config, llama_config, normlab_config
from normlab.app.hugging_face.copied_code import files_of
from normlab.app.hugging_face.folder import CONFIG, PREFIX, WEIGHTS
from normlab.app.hugging_face.llama_weights import to_llama
from normlab.app.hugging_face.tokenizer_files import write_tokenizer
from normlab.core.files import folder_made_whole
from normlab.model.language_model import LanguageModel


def write_folder(trained: Trained, folder: Path) -> Sequence[str]:
    """Write the folder whole or not at all; return in which parts the model is no Llama, and so has its code there."""
    architecture = {name: plain(trained.config[name]) for name in ("model", "attention")}
    model, tokenizer = trained.model, trained.tokenizer
    differences = beyond_llama(architecture)
    end_of_text = None if tokenizer is None else tokenizer.end_of_text
    with folder_made_whole(folder) as unfinished:
        if differences:
            config = normlab_config(architecture, model.vocab_size, end_of_text)
            weights = {f"{PREFIX}{name}": weight for name, weight in model.state_dict().items()}
            for name, source in files_of(architecture).items():
                (unfinished / name).write_text(source, encoding="utf-8")
        else:
            config = llama_config(architecture, model.vocab_size, end_of_text)
            weights = _of_llama(model, config)
        save_file(_each_by_itself(weights), unfinished / WEIGHTS, metadata={"format": "pt"})
        _write_json(unfinished / CONFIG, config)
        _write_json(unfinished / "generation_config.json", generation_config(end_of_text, has_cache=not differences))
        if tokenizer is not None:
            write_tokenizer(tokenizer, model.context_length, unfinished)
        (unfinished / WEIGHTS).chmod((unfinished / CONFIG).stat().st_mode)  # safetensors lets the owner alone read
        (unfinished / "README.md").write_text(_card(trained, differences), encoding="utf-8")
    return differences


def _of_llama(model: LanguageModel, config: Mapping[str, Any]) -> dict[str, Tensor]:
    return to_llama(
        model.state_dict(),
        num_layers=config["num_hidden_layers"],
        num_heads=config["num_attention_heads"],
        is_tied=config["tie_word_embeddings"],
    )


def _each_by_itself(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, and none a part of another: what has two names in the model has two in the file."""
    return {name: weight.detach().cpu().clone().contiguous() for name, weight in weights.items()}


def _card(trained: Trained, differences: Sequence[str]) -> str:
    summary = {} if trained.folder is None else trained.folder.read_summary()
    configuration = OmegaConf.to_yaml(trained.config, resolve=True)
    return model_card(summary, trained.step, differences, configuration, has_text=trained.tokenizer is not None)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
