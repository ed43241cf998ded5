"""The single entry point:  python src/run.py [group=option …] [key=value …] [--multirun]  (see --help)."""

import sys


def start() -> int:
    """The exit code of the command line; 130 where Ctrl-C came before there was a run to stop."""
    try:
        from normlab.app.cli import main

        return main()
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(start())
