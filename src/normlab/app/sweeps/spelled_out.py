"""``key=logspace(first,last,count)``, which Hydra does not have, written as the choices that it stands for."""

import math
import re

from normlab.core.errors import ConfigError

LOGSPACE = re.compile(r"(?P<key>[^=]+)=logspace\((?P<arguments>[^()]*)\)")
SIGNIFICANT_DIGITS = 4


def spelled_out(override: str) -> str:
    """The override; of ``optimizer.lr=logspace(-4,-1,7)`` the seven values from 1e-4 to 1e-1, evenly by logarithm.

    Values have four significant digits, so that they can be typed and read. Raises ConfigError for other arguments.
    """
    found = LOGSPACE.fullmatch(override)
    if found is None:
        return override
    try:
        first, last, count = found["arguments"].split(",")
        exponents = _evenly_spaced(float(first), float(last), int(count))
        values = [f"{10**exponent:.{SIGNIFICANT_DIGITS}g}" for exponent in exponents]
    except (ValueError, OverflowError):
        raise ConfigError(
            f"logspace takes the exponents of the first and last value and how many there are (2 or more); "
            f"got {override}. Type {found['key']}=logspace(-4,-1,7) for seven values from 0.0001 to 0.1."
        ) from None
    return f"{found['key']}={','.join(values)}"


def _evenly_spaced(first: float, last: float, count: int) -> list[float]:
    are_values = 0 < first < 1 and 0 < last < 1  # 1e-4 typed for -4
    if count < 2 or are_values or not (math.isfinite(first) and math.isfinite(last)):
        raise ValueError
    return [first + (last - first) * index / (count - 1) for index in range(count)]
