"""The configuration of a model that Llama cannot express: its parts, as normlab's configurations name them."""

from typing import Any

from torch import nn
from transformers import PretrainedConfig

from normlab.app.hugging_face.in_folder.instantiate import instantiate


class NormlabConfig(PretrainedConfig):
    """``architecture`` holds the groups ``model`` and ``attention`` of the run's configuration.

    It builds the model itself: transformers takes configurations of one code for one class, and one class for one
    model, so the code of two models must be part of that of their configurations.
    """

    model_type = "normlab"

    def __init__(
        self,
        architecture: dict[str, Any] | None = None,
        vocab_size: int = 0,
        hidden_size: int = 0,
        num_hidden_layers: int = 0,
        num_attention_heads: int = 0,
        max_position_embeddings: int = 0,
        **kwargs: Any,
    ):
        self.architecture = architecture or {}
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.max_position_embeddings = max_position_embeddings
        super().__init__(**kwargs)

    def build(self) -> nn.Module:
        """The model, its weights undrawn."""
        model = instantiate(self.architecture["model"])
        return model(self.vocab_size, attention=instantiate(self.architecture["attention"]))
