"""Causal multi-head self-attention.

Shapes: ``B`` batch, ``T`` time, ``D`` width, ``H`` heads, ``K`` head width; logits are ``BHTT`` (query, key).
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional

from normlab.model import flex_attention
from normlab.model.attention_kernel import is_available, kernel_attention, serves
from normlab.model.chunked_attention import in_chunks
from normlab.model.linear import LinearFactory
from normlab.model.logit_scale import LogitScale
from normlab.model.norms import NormFactory
from normlab.model.position import Rotate
from normlab.model.qk_clip import QKClipFactory
from normlab.model.softmax import StableSoftmax

LogitObserver = Callable[[Tensor, Tensor], None]
"""Takes the logits before any clamp, and which of them are visible."""


class ExplicitAttention(nn.Module):
    """softmax(mask(clamp(scale * q k^T))) v, step by step, so that something can stand on the logits.

    The clamp comes before the mask: clamping the mask's -inf to a finite bound would let the future leak in.
    The mask ``visible`` is True where a query (row) may see a key (column): its past and itself, unless given.
    """

    def __init__(self, scale: float, clamp: nn.Module, softmax: nn.Module, observe: LogitObserver):
        super().__init__()
        self.scale = scale
        self.clamp = clamp
        self.softmax = softmax
        self.observe = observe

    def forward(
        self, query_BHTK: Tensor, key_BHTK: Tensor, value_BHTK: Tensor, visible: Tensor | None = None
    ) -> Tensor:
        logits_BHTT = query_BHTK @ key_BHTK.mT * self.scale
        if visible is None:
            visible = causally_visible(logits_BHTT)
        self.observe(logits_BHTT, visible)
        masked_BHTT = self.clamp(logits_BHTT).masked_fill(~visible, -math.inf)
        return self.softmax(masked_BHTT) @ value_BHTK


def causally_visible(logits_BHTT: Tensor) -> Tensor:
    """True where a query (row) may see a key (column): the past and itself."""
    return torch.ones(logits_BHTT.shape[-2:], dtype=torch.bool, device=logits_BHTT.device).tril()


class FusedAttention(nn.Module):
    """softmax(mask(scale * q k^T)) v by a fused kernel, which never shows the logits.

    On CPU the project's kernel, which is faster than torch's there; elsewhere, and where no compiler is, torch's.
    """

    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale
        self.has_kernel = is_available()

    def forward(self, query_BHTK: Tensor, key_BHTK: Tensor, value_BHTK: Tensor) -> Tensor:
        inputs = in_autocast(query_BHTK, key_BHTK, value_BHTK)
        if self.has_kernel and serves(*inputs, NO_CLAMP):
            return kernel_attention(*inputs, scale=self.scale, clamp=NO_CLAMP)
        return functional.scaled_dot_product_attention(*inputs, is_causal=True, scale=self.scale)

    def spelt_out(self) -> Callable[..., Tensor]:
        """The same function step by step."""
        return ExplicitAttention(self.scale, nn.Identity(), StableSoftmax(), observe_nothing).forward


class ClampedAttention(ExplicitAttention):
    """The same function as the explicit form, without its logits in memory: no more than a few rows at a time.

    By a kernel that knows the clamp, else by the explicit form, a block of queries at a time. The clamp acts on each
    logit alone. What needs to see the logits, or a second derivative, takes ``spelt_out``.
    """

    def __init__(self, scale: float, clamp: nn.Module, softmax: StableSoftmax):
        super().__init__(scale, clamp, softmax, observe_nothing)
        self.has_kernel = is_available()

    def forward(
        self, query_BHTK: Tensor, key_BHTK: Tensor, value_BHTK: Tensor, visible: Tensor | None = None
    ) -> Tensor:
        if visible is not None:
            return super().forward(query_BHTK, key_BHTK, value_BHTK, visible)
        inputs = in_autocast(query_BHTK, key_BHTK, value_BHTK)
        if self.has_kernel and serves(*inputs, self.clamp):
            return kernel_attention(*inputs, scale=self.scale, clamp=self.clamp)
        if flex_attention.serves(inputs[0], self.clamp):
            return flex_attention.flex(*inputs, scale=self.scale, clamp=self.clamp)
        return in_chunks(self.spelt_out(), *inputs)

    def spelt_out(self) -> Callable[..., Tensor]:
        """The same function step by step."""
        return super().forward


def observe_nothing(logits_BHTT: Tensor, visible: Tensor) -> None:
    """Nobody asks for the logits."""


NO_CLAMP = nn.Identity()


def in_autocast(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The three in the type of products where autocast is on, as torch's own products would take them."""
    device = query.device.type
    if not torch.is_autocast_enabled(device) or query.dtype == torch.float64:
        return query, key, value
    dtype = torch.get_autocast_dtype(device)
    return query.to(dtype), key.to(dtype), value.to(dtype)


@contextmanager
def attention_spelt_out(model: nn.Module) -> Iterator[None]:
    """All attention of a model computed step by step: the same function, its logits in the open."""
    hidden = [module for module in model.modules() if isinstance(module, FusedAttention | ClampedAttention)]
    for module in hidden:
        module.forward = module.spelt_out()
    try:
        yield
    finally:
        for module in hidden:
            del module.forward


class CausalSelfAttention(nn.Module):
    """out(attend(rotate(qk_norm(query(x))), rotate(qk_norm(key(x))), value(x))), heads side by side.

    Vaswani et al. 2017, section 3.2. ``clip_qkv`` stands on all three projections, ``qk_norm`` on each head's queries
    and keys (gains shared by the heads), ``scale``, ``clamp`` and ``softmax`` between products and weights. Where
    nobody needs to see the logits, kernels compute the same function without keeping them.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        rotate: Rotate,
        linear: LinearFactory,
        qk_norm: NormFactory,
        *,
        scale: LogitScale,
        clamp: nn.Module,
        softmax: nn.Module,
        clip_qkv: nn.Module,
        qk_clip: QKClipFactory,
    ):
        super().__init__()
        self.num_heads = num_heads
        self.rotate = rotate
        self.query = linear(width, width)
        self.key = linear(width, width)
        self.value = linear(width, width)
        self.out = linear(width, width)
        self.clip_qkv = clip_qkv
        head_width = width // num_heads
        self.query_norm = qk_norm(head_width)
        self.key_norm = qk_norm(head_width)
        self.qk_clip = qk_clip(num_heads)
        scale_factor = scale.of(head_width)
        if self.qk_clip.needs_logits or not isinstance(softmax, StableSoftmax):
            self.attend = ExplicitAttention(scale_factor, clamp, softmax, self.qk_clip.observe)
        elif isinstance(clamp, nn.Identity):
            self.attend = FusedAttention(scale_factor)
        else:
            self.attend = ClampedAttention(scale_factor, clamp, softmax)

    def forward(self, x_BTD: Tensor, positions_T: Tensor | None = None) -> Tensor:
        query_BHTK, key_BHTK, value_BHTK = (
            self._split_heads(self.clip_qkv(projection(x_BTD))) for projection in (self.query, self.key, self.value)
        )
        query_BHTK = self.rotate(self.query_norm(query_BHTK), positions_T)
        key_BHTK = self.rotate(self.key_norm(key_BHTK), positions_T)
        attended_BHTK = self.attend(query_BHTK, key_BHTK, value_BHTK)
        return self.out(attended_BHTK.transpose(-3, -2).flatten(-2))

    def after_update(self) -> None:
        """What has to be done to the weights after an optimizer step."""
        self.qk_clip.rescale(self.query.weight, self.key.weight)

    def _split_heads(self, x_BTD: Tensor) -> Tensor:
        return x_BTD.unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)


AttentionFactory = Callable[[int, int, Rotate, LinearFactory, NormFactory], CausalSelfAttention]
"""From the width, the number of heads, the rotation, the linear map and the norm of queries and keys."""
