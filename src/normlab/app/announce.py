"""Lines for the person who waits."""

import sys


def announce(line: str) -> None:
    """Say a line on standard error, so that standard output keeps results alone."""
    print(line, file=sys.stderr, flush=True)
