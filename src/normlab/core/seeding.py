"""One seed, many independent streams: every random draw is named, so adding one leaves the others alone."""

import hashlib


def derive_seed(seed: int, name: str) -> int:
    """The first 63 bits of SHA-256("seed/name"): the seed of the stream called ``name``.

    Two runs that share a seed draw equal numbers for equal names, whatever else they draw.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
