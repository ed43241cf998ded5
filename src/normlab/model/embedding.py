"""The token embedding.

Shapes: ``V`` vocabulary, ``D`` width, ``...`` any leading dimensions.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Embedding(nn.Module):
    """Row ``token`` of the weight. The weight is left undrawn: ``normlab.model.init`` fills it by name."""

    def __init__(self, vocab_size: int, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, width))

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.embedding(tokens, self.weight)

    def extra_repr(self) -> str:
        vocab_size, width = self.weight.shape
        return f"{vocab_size} tokens -> {width}"
