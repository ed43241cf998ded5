"""How low a loss can be: the entropy of a corpus whose source knows it."""

import json
from pathlib import Path
from typing import Protocol

from normlab.core.files import write_whole
from normlab.data.source import Split


class KnowsEntropy(Protocol):
    """The part of a source that is asked here."""

    def identity(self, split: Split) -> str:
        """What decides the split's documents."""
        ...

    def nats(self, split: Split) -> float | None:
        """The split's surprisal, if known."""
        ...


def entropy_per_token(source: KnowsEntropy, split: Split, num_tokens: int, cache: Path) -> float | None:
    """The split's surprisal under its own source, in nats per token (end-of-text tokens counted); None if unknown.

    ``num_tokens`` is the split's length as the tokenizer in use encodes it. The surprisal does not depend on the
    tokenizer and is kept in the cache, since a source may have to make the split anew to know it.
    """
    path = cache / "entropy" / f"{source.identity(split)[:16]}.json"
    if path.is_file():
        nats = json.loads(path.read_text())["nats"]
    else:
        nats = source.nats(split)
        write_whole(path, json.dumps({"nats": nats}) + "\n")
    return None if nats is None else nats / num_tokens
