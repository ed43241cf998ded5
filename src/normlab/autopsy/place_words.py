"""Places of a network in words that can be read aloud."""

PLACES = {
    "token_embedding": "the embedding",
    "position": "the position embedding",
    "embedding_norm": "the norm of the embedding",
    "final_norm": "the final norm",
    "head": "the head",
    "output_cap": "the cap on the logits",
    "loss": "the loss",
    "model": "the model",
    "layer": "the layer",
    "inputs": "the input tokens",
    "targets": "the target tokens",
    "attention": "attention",
    "attention.query": "the query projection",
    "attention.key": "the key projection",
    "attention.value": "the value projection",
    "attention.out": "attention's last projection",
    "attention.query_norm": "the norm of the queries",
    "attention.key_norm": "the norm of the keys",
    "attention.clip_qkv": "the clamp on queries, keys and values",
    "attention.attend": "attention",
    "attention.attend.clamp": "the clamp on the attention logits",
    "attention.attend.softmax": "the attention softmax",
    "ffn": "the feed-forward",
    "ffn.gate": "the feed-forward's gate projection",
    "ffn.up": "the feed-forward's first projection",
    "ffn.down": "the feed-forward's last projection",
}
SUBLAYERS = {"attention_path": "attention", "ffn_path": "the feed-forward"}
PATHS = {
    "": "the residual path of {}",
    "input_norm": "the norm before {}",
    "input_scale": "the scale before {}",
    "branch_norm": "the norm on the output of {}",
    "stream_scale": "the scale of the stream beside {}",
    "rule": "the residual path of {}",
    "output_norm": "the norm behind {}",
}
TENSORS = {
    "weight": "the weight",
    "gain": "the gain",
    "bias": "the bias",
    "alpha": "the trained scale",
    "scale": "the trained scale",
    "exp_avg": "the first moment",
    "exp_avg_sq": "the second moment",
    "momentum_buffer": "the momentum",
    "gradient": "the gradient",
}


def place_in_words(site: str) -> str:
    """The path of a module or of a weight, without its layer: ``ffn.down`` as the feed-forward's last projection."""
    if site in PLACES:
        return PLACES[site]
    parent, _, last = site.rpartition(".")
    if last in TENSORS and parent:
        return f"{TENSORS[last]} of {place_in_words(parent)}"
    path, _, part = site.partition(".")
    if path in SUBLAYERS and part in PATHS:
        return PATHS[part].format(SUBLAYERS[path])
    return site


def in_layer(place: str, layer: int | None) -> str:
    """A place and its layer."""
    return place if layer is None else f"{place} of layer {layer}"
