"""A trained model of normlab for transformers: loaded, evaluated, sampled, trained on. It keeps no cache.

Shapes: ``B`` batch, ``T`` time, ``V`` vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput

from normlab.app.hugging_face.in_folder.configuration_normlab import NormlabConfig


class NormlabForCausalLM(PreTrainedModel, GenerationMixin):
    """The model that ``config.architecture`` describes; its weights come from a file, for it draws none."""

    config_class = NormlabConfig
    _tied_weights_keys = {"language_model.head.weight": "language_model.token_embedding.weight"}  # noqa: RUF012

    def __init__(self, config: NormlabConfig):
        super().__init__(config)
        self.language_model = config.build()
        self._constants: dict[str, Tensor] = {}
        self.post_init()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None, **kwargs: Any
    ) -> CausalLMOutput:
        """Logits ``BTV``. What the mask leaves out on the left is cut off, so that positions count from the text."""
        if kwargs.get("past_key_values") is not None:
            raise ValueError("The model keeps no cache, so generate takes use_cache=False; got a cache.")
        if input_ids.shape[-1] > self.config.max_position_embeddings:
            raise ValueError(
                f"The model's context is {self.config.max_position_embeddings} tokens; got {input_ids.shape[-1]}."
            )
        logits_BTV = self._logits(input_ids, attention_mask)
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits_BTV, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutput(loss=loss, logits=logits_BTV)

    def _logits(self, tokens_BT: Tensor, mask_BT: Tensor | None) -> Tensor:
        starts = [0] if mask_BT is None else mask_BT.bool().int().argmax(-1).tolist()
        if not any(starts):
            return self.language_model(tokens_BT)
        rows = [self.language_model(row[None, start:])[0] for row, start in zip(tokens_BT, starts, strict=True)]
        return torch.stack([nn.functional.pad(row, (0, 0, start, 0)) for row, start in zip(rows, starts, strict=True)])

    def get_input_embeddings(self) -> nn.Module:
        """Where tokens become vectors."""
        return self.get_submodule("language_model.token_embedding")

    def get_output_embeddings(self) -> nn.Module:
        """Where vectors become logits."""
        return self.get_submodule("language_model.head")

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        """Fill in constants that no file holds, such as rotary tables: transformers makes their memory anew."""
        name = next(name for name, each in self.named_modules() if each is module)
        if not self._constants:
            with torch.device("cpu"):
                self._constants = dict(self.config.build().named_buffers(prefix="language_model"))
        for key in module._non_persistent_buffers_set:
            getattr(module, key).copy_(self._constants[f"{name}.{key}"])
