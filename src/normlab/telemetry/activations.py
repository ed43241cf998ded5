"""What flows through a model in one forward pass, and back: statistics of every site, kept on the device.

Hooks are attached from outside for one pass. They read under no_grad and return nothing, so that losses, gradients
and weights are bit for bit what they are without.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from normlab.model.clamp import limit_of
from normlab.model.language_model import LanguageModel
from normlab.model.layer import Layer
from normlab.model.roles import split_layer
from normlab.telemetry.attention_statistics import attention_statistics

Readings = dict[str, Tensor]
"""Scalars on the device by TensorBoard tag."""

Hook = Callable[[nn.Module, tuple[Any, ...], Tensor], None]


class ActivationProbe:
    """Reads RMS and largest magnitude of every site, attention logits, and how far bounds and norms are saturated.

    Sites by layer: ``residual`` (the stream after the layer), ``attention`` and ``ffn`` (the sublayers' outputs),
    ``ffn_hidden`` (what the feed-forward's last projection gets; for SwiGLU the product with the gate); beside them
    ``embedding`` (the stream before the first layer) and ``logits``. With ``has_gradients`` also the RMS of the
    gradient of the loss with respect to each. NaN and infinity come out as they are.
    """

    def __init__(self, model: LanguageModel, *, per_head: bool, has_gradients: bool):
        self.model = model
        self.per_head = per_head
        self.has_gradients = has_gradients
        self.passes: list[Readings] = []
        self.num_sequences: list[int] = []
        self._num_left = 0
        self._handles: list[RemovableHandle] = []

    @property
    def readings(self) -> Readings:
        """Those of the last pass that was watched."""
        return self.passes[-1] if self.passes else {}

    def watch_next_pass(self) -> None:
        """Attach to the model until its next forward pass is over; what was read before is forgotten."""
        self.watch_next_passes(1)

    def watch_next_passes(self, number: int) -> None:
        """The same for several: ``passes`` then has what was read in each, ``num_sequences`` how many it was of.

        A pass's backward pass has to come before the next one.
        """
        self.detach()
        self.passes, self.num_sequences, self._num_left = [], [], number
        self._handles = [self.model.register_forward_pre_hook(self._begin_pass)]
        self._handles += [module.register_forward_hook(hook) for module, hook in self._hooks()]

    def _begin_pass(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.passes.append({})
        self.num_sequences.append(len(args[0]))
        self._num_left -= 1

    def _end_pass(self) -> None:
        if self._num_left == 0:
            self.detach()

    def detach(self) -> None:
        """Let go of the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _hooks(self) -> Iterator[tuple[nn.Module, Hook]]:
        yield self.model.embedding_norm, lambda module, args, output: self._read_site("embedding", output)
        for index, layer in enumerate(self.model.layers):
            yield from self._hooks_of_layer(cast(Layer, layer), f"layer_{index}")
        yield from self._hooks_of_saturating_norms()
        if limit_of(self.model.output_cap) is not None:
            yield (
                self.model.output_cap,
                lambda module, args, output: self._read_hits("output_cap_hit_rate", module, args[0], 1),
            )
        yield self.model, lambda module, args, output: self._read_site("logits", output)
        yield self.model, lambda module, args, output: self._end_pass()

    def _hooks_of_layer(self, layer: Layer, name: str) -> Iterator[tuple[nn.Module, Hook]]:
        attention: Any = layer.attention
        ffn: Any = layer.ffn
        yield attention.attend, lambda module, args, output: self._read_attention(name, module, args[0], args[1])
        if limit_of(attention.clip_qkv) is not None:
            tag = f"clip_qkv_hit_rate/{name}"
            yield attention.clip_qkv, lambda module, args, output: self._read_hits(tag, module, args[0], 3)
        yield attention, lambda module, args, output: self._read_site(f"attention/{name}", output)
        yield ffn.down, lambda module, args, output: self._read_site(f"ffn_hidden/{name}", args[0])
        yield ffn, lambda module, args, output: self._read_site(f"ffn/{name}", output)
        yield layer, lambda module, args, output: self._read_site(f"residual/{name}", output)

    def _hooks_of_saturating_norms(self) -> Iterator[tuple[nn.Module, Hook]]:
        for name, module in self.model.named_modules():
            if hasattr(module, "saturated_fraction"):
                yield module, self._saturation_hook(f"saturation/{_tag_of_module(name)}")

    def _saturation_hook(self, tag: str) -> Hook:
        def hook(module: Any, args: tuple[Any, ...], output: Tensor) -> None:
            with torch.no_grad():
                self.readings[tag] = module.saturated_fraction(args[0])

        return hook

    def _read_site(self, site: str, x: Tensor) -> None:
        with torch.no_grad():
            self.readings[f"activation_rms/{site}"] = root_mean_square(x)
            self.readings[f"activation_absmax/{site}"] = largest_magnitude(x)
        if self.has_gradients and x.requires_grad:
            x.register_hook(lambda gradient: self._read_gradient(site, gradient))

    def _read_gradient(self, site: str, gradient: Tensor) -> None:
        with torch.no_grad():
            self.readings[f"gradient_rms/{site}"] = root_mean_square(gradient)

    def _read_attention(self, name: str, attend: Any, query_BHTK: Tensor, key_BHTK: Tensor) -> None:
        found = attention_statistics(attend, query_BHTK, key_BHTK)
        by_head = {"attention_logit_max": found.logit_max_H, "attention_entropy": found.entropy_H}
        self.readings[f"attention_logit_max/{name}"] = found.logit_max_H.amax()
        self.readings[f"attention_entropy/{name}"] = found.entropy_H.mean()
        if found.hit_rate_H is not None:
            by_head["clamp_hit_rate"] = found.hit_rate_H
            self.readings[f"clamp_hit_rate/{name}"] = found.hit_rate_H.mean()
        if self.per_head:
            for statistic, values_H in by_head.items():
                for head, value in enumerate(values_H):
                    self.readings[f"{statistic}/{name}/head_{head}"] = value

    def _read_hits(self, tag: str, clamp: Any, x: Tensor, num_calls: int) -> None:
        """The share of values beyond the limit, mean over the calls of one pass."""
        with torch.no_grad():
            rate = (x.abs() > clamp.limit).float().mean() / num_calls
            self.readings[tag] = self.readings[tag] + rate if tag in self.readings else rate


def root_mean_square(x: Tensor) -> Tensor:
    """sqrt(mean(x^2)), in float32 (or wider)."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return torch.linalg.vector_norm(x, dtype=wide) / x.numel() ** 0.5


def largest_magnitude(x: Tensor) -> Tensor:
    """max |x|, NaN where there is one."""
    low, high = torch.aminmax(x)
    return torch.maximum(-low, high)


def _tag_of_module(name: str) -> str:
    """``layers.3.ffn_path.input_norm`` as ``ffn_path.input_norm/layer_3``; other names as they are."""
    layer, rest = split_layer(name)
    return name if layer is None else f"{rest}/layer_{layer}"
