"""Units of loss."""

import math


def bits_per_byte(nats_per_token: float | None, bytes_per_token: float | None) -> float | None:
    """nats / (ln 2 * bytes per token): comparable across tokenizers. None where either is unknown."""
    if nats_per_token is None or bytes_per_token is None or not bytes_per_token > 0:
        return None
    return nats_per_token / (math.log(2) * bytes_per_token)
