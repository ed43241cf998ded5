"""Numbers of a report in words."""

from collections.abc import Sequence

from normlab.report.intervals import Mean

NO_BREAK = "\N{NO-BREAK SPACE}"
SMALL = 1e-3
MINUTE, HOUR, DAY = 60, 3600, 86400


def mean_in_words(mean: Mean | None) -> str:
    """``2.091 [2.071, 2.111]``, the interval below the mean; the mean alone where one seed tells no interval."""
    if mean is None:
        return "-"
    if mean.low is None or mean.high is None:
        return f"{mean.value:.4f}\none seed"
    return f"{mean.value:.4f}\n{interval_in_words(mean.low, mean.high)}"


def difference_in_words(mean: Mean) -> str:
    """``-0.0312 [-0.0401, -0.0223]``; of differences below a thousandth the first two digits."""
    if mean.low is None or mean.high is None:
        return f"{mean.value:{'+.4f' if abs(mean.value) >= SMALL else '+.2g'}}"
    form = "+.4f" if max(map(abs, (mean.value, mean.low, mean.high))) >= SMALL else "+.2g"
    return f"{mean.value:{form}} {interval_in_words(mean.low, mean.high, form)}"


def interval_in_words(low: float, high: float, form: str = ".4f") -> str:
    """``[2.071, 2.111]``, with a space at which no line is broken."""
    return f"[{low:{form}},{NO_BREAK}{high:{form}}]"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """``1 run``, ``2,000 runs``."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def duration(seconds: float) -> str:
    """``1 h 12 min``, ``3.2 s``."""
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.1f} min"
    if seconds < DAY:
        return f"{seconds // HOUR:.0f} h {seconds % HOUR / MINUTE:.0f} min"
    return f"{seconds / DAY:.1f} days"


def listed(items: Sequence[str], most: int = 12) -> str:
    """``a, b and c``; of more than the most, how many are left out."""
    shown = list(items) if len(items) <= most else [*items[: most - 1], f"{len(items) - most + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else ""


def quoted(items: Sequence[str], most: int = 12) -> str:
    """The same for labels that hold commas: parted by semicolons."""
    shown = list(items) if len(items) <= most else [*items[:most], f"and {len(items) - most} more"]
    return "; ".join(shown)


def number(value: float | None) -> str:
    """With four significant digits."""
    return "-" if value is None else f"{value:.4g}"
