"""The statistics of a run in words, from their tags in metrics.jsonl."""

from typing import NamedTuple

from normlab.autopsy.place_words import place_in_words

STATISTICS = {
    "activation_rms": "the RMS of {}",
    "activation_absmax": "the largest magnitude in {}",
    "gradient_rms": "the RMS of the gradient at {}",
    "attention_logit_max": "the largest attention logit",
    "attention_entropy": "the attention entropy",
    "clamp_hit_rate": "the share of clamped attention logits",
    "clip_qkv_hit_rate": "the share of clamped queries, keys and values",
    "output_cap_hit_rate": "the share of capped logits",
    "saturation": "the share of flattened inputs of {}",
    "grad_norm": "the gradient norm of {}",
    "weight_norm": "the weight norm of {}",
    "update_norm": "the update norm of {}",
    "update_ratio": "the ratio of update to weight of {}",
    "train_loss": "the training loss",
    "val_loss": "the validation loss",
    "sharpness": "the sharpness ({})",
    "lr": "the learning rate",
}
SITES = {
    "residual": "the residual stream",
    "attention": "the attention output",
    "ffn_hidden": "the feed-forward's hidden product",
    "ffn": "the feed-forward output",
    "embedding": "the embedding",
    "logits": "the logits",
}


class Statistic(NamedTuple):
    """What a tag of metrics.jsonl means, and the layer and head that it is of."""

    name: str
    layer: int | None
    head: int | None

    def __str__(self) -> str:
        """ "the largest attention logit of layer 3"."""
        head = "" if self.head is None else f", head {self.head}"
        return self.name if self.layer is None else f"{self.name} of layer {self.layer}{head}"


def statistic_of(tag: str) -> Statistic:
    """``activation_rms/ffn/layer_2`` as the RMS of the feed-forward output of layer 2."""
    if tag in ("grad_norm", "grad_norm/total"):
        return Statistic("the gradient norm", None, None)
    statistic, *rest = tag.split("/")
    numbers = {part.rpartition("_")[0]: int(part.rpartition("_")[2]) for part in rest if _is_numbered(part)}
    of = ", ".join(SITES.get(part, part) for part in rest if not _is_numbered(part))
    if statistic == "saturation":
        of = place_in_words(of)
    name = STATISTICS.get(statistic, f"{statistic} {{}}" if of else statistic).format(of)
    return Statistic(name, numbers.get("layer"), numbers.get("head"))


def _is_numbered(part: str) -> bool:
    name, _, number = part.rpartition("_")
    return name in ("layer", "head") and number.isdecimal()
