"""The decoder-only language model: embedding, layers, final norm, head.

Shapes: ``B`` batch, ``T`` time, ``D`` width, ``V`` vocabulary.
"""

from torch import Tensor, nn

from normlab.core.types import Count
from normlab.model.attention import AttentionFactory
from normlab.model.embedding import Embedding
from normlab.model.feed_forward import FeedForwardFactory
from normlab.model.linear import Linear
from normlab.model.norms import NormFactory
from normlab.model.placement import Placement
from normlab.model.position import PositionFactory
from normlab.model.residual import ResidualFactory, ResidualPath


class Layer(nn.Module):
    """Attention, then feed-forward, each on a residual path of its own."""

    def __init__(self, attention: nn.Module, attention_path: ResidualPath, ffn: nn.Module, ffn_path: ResidualPath):
        super().__init__()
        self.attention = attention
        self.attention_path = attention_path
        self.ffn = ffn
        self.ffn_path = ffn_path

    def forward(self, x_BTD: Tensor) -> Tensor:
        x_BTD = self.attention_path(x_BTD, self.attention)
        return self.ffn_path(x_BTD, self.ffn)


class LanguageModel(nn.Module):
    """Tokens to the logits of each next token: head(final_norm(layers(embedding_norm(embedding(tokens))))).

    The parts (attention, norm, placement, residual, position, ffn) are factories that get their widths here.
    With ``tied_embedding`` the head's weight is the embedding's.
    """

    def __init__(
        self,
        vocab_size: int,
        attention: AttentionFactory,
        *,
        width: Count,
        num_layers: Count,
        num_heads: Count,
        context_length: Count,
        tied_embedding: bool,
        norm: NormFactory,
        placement: Placement,
        residual: ResidualFactory,
        position: PositionFactory,
        ffn: FeedForwardFactory,
    ):
        super().__init__()
        self.vocab_size = vocab_size
        self.context_length = context_length
        shared_position = position(width // num_heads, context_length)
        self.token_embedding = Embedding(vocab_size, width)
        self.embedding_norm = placement.norm("embedding", norm, width)
        self.layers = nn.ModuleList(
            Layer(
                attention(width, num_heads, shared_position),
                ResidualPath(width, norm, placement, residual),
                ffn(width),
                ResidualPath(width, norm, placement, residual),
            )
            for _ in range(num_layers)
        )
        self.final_norm = placement.norm("final", norm, width)
        self.head = Linear(width, vocab_size)
        if tied_embedding:
            self.head.weight = self.token_embedding.weight

    def forward(self, tokens_BT: Tensor) -> Tensor:
        x_BTD = self.embedding_norm(self.token_embedding(tokens_BT))
        for layer in self.layers:
            x_BTD = layer(x_BTD)
        return self.head(self.final_norm(x_BTD))

    def num_parameters(self) -> int:
        """The number of trained values, a tied weight counted once."""
        return sum(parameter.numel() for parameter in self.parameters())
