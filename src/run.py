"""The single entry point:  python src/run.py [group=option ...] [key=value ...] [--multirun]  (see --help)."""

import sys

from normlab.app.cli import main

if __name__ == "__main__":
    sys.exit(main())
