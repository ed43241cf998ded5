"""The peers' models: each is a module from tokens to logits, of a configuration's shape.

Libraries have no hard clamp: they run without, in their favour. Without norms, theirs are replaced by the identity.
"""

from collections.abc import Callable
from importlib.util import find_spec

from torch import Tensor, nn

from training.shapes import Shape, numbers_of
from training.student import RMSNorm, Student, explicit_attention, fused_attention


class Logits(nn.Module):
    """Of a Hugging Face model, without the record around them."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, tokens_BT: Tensor) -> Tensor:
        return self.model(input_ids=tokens_BT, use_cache=False).logits


def hugging_face(shape: Shape) -> nn.Module:
    """LlamaForCausalLM with torch's fused attention."""
    from transformers import LlamaConfig, LlamaForCausalLM

    numbers = numbers_of(shape)
    config = LlamaConfig(
        vocab_size=shape.vocab_size,
        hidden_size=int(numbers["width"]),
        intermediate_size=int(numbers["hidden_width"]),
        num_hidden_layers=int(numbers["num_layers"]),
        num_attention_heads=int(numbers["num_heads"]),
        max_position_embeddings=shape.context,
        tie_word_embeddings=False,
        use_cache=False,
        attn_implementation="sdpa",  # type: ignore[reportCallIssue]
    )
    model = LlamaForCausalLM(config)
    if shape.norm == "none":
        model.model.norm = nn.Identity()  # type: ignore[assignment]
        for layer in model.model.layers:
            layer.input_layernorm = layer.post_attention_layernorm = nn.Identity()  # type: ignore[assignment]
    return Logits(model)


def litgpt(shape: Shape) -> nn.Module:
    """litgpt's GPT in the form that Llama has: one matrix for queries, keys and values."""
    from litgpt import GPT, Config

    numbers = numbers_of(shape)
    config = Config(
        block_size=shape.context,
        vocab_size=shape.vocab_size,
        padded_vocab_size=shape.vocab_size,
        n_layer=int(numbers["num_layers"]),
        n_head=int(numbers["num_heads"]),
        n_embd=int(numbers["width"]),
        intermediate_size=int(numbers["hidden_width"]),
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    model = GPT(config)
    if shape.norm == "none":
        model.transformer["ln_f"] = nn.Identity()
        for block in model.transformer["h"]:  # type: ignore[union-attr]
            block.norm_1, block.norm_2 = nn.Identity(), nn.Identity()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.02)
    return model


def student_as_written(shape: Shape) -> nn.Module:
    """The student's model with its attention spelt out."""
    return _student(shape, is_fused=False)


def student(shape: Shape) -> nn.Module:
    """The student's model with torch's fused attention where there is no clamp."""
    return _student(shape, is_fused=shape.clamp == "none")


def _student(shape: Shape, *, is_fused: bool) -> nn.Module:
    numbers = numbers_of(shape)
    limit = numbers.pop("limit")
    norm: Callable[[int], nn.Module] = RMSNorm if shape.norm == "rmsnorm" else nn.Identity
    attend = fused_attention if is_fused else explicit_attention(limit)
    return Student(shape.vocab_size, shape.context, norm, attend, **{key: int(n) for key, n in numbers.items()})


PEERS: dict[str, Callable[[Shape], nn.Module]] = {
    "Hugging Face Llama": hugging_face,
    "litgpt": litgpt,
    "student": student,
}
PACKAGES = {"Hugging Face Llama": "transformers", "litgpt": "litgpt"}


def missing_package(peer: str) -> str | None:
    """The package that a peer needs and this environment lacks."""
    package = PACKAGES.get(peer)
    return package if package is not None and find_spec(package) is None else None
