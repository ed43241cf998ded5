"""task=report: what a sweep has found, from its folder, at any time."""

import textwrap
from pathlib import Path

from omegaconf import DictConfig

from normlab.app.announce import shown_path
from normlab.core.errors import ConfigError
from normlab.core.run_folder import RunFolder
from normlab.report.in_short import in_short
from normlab.report.load import load_sweep
from normlab.report.page import write_report_of

WIDTH = 100


def report(config: DictConfig, folder: RunFolder, *, sweep: str, into: str | None) -> int:
    """Write the report into the sweep's folder, also while it runs, and say the answer in short.

    In another folder, ``into``, it stands alone: to be given away or published.
    """
    read = load_sweep(Path(sweep))
    try:
        page = write_report_of(read, None if into is None else Path(into))
    except OSError as error:
        place = f"into={into}" if into is not None else f"sweep={sweep}"
        raise ConfigError(
            f"A report needs a folder that can be written; {place} cannot be ({error.strerror}). Name one with into=…"
        ) from None
    for line in in_short(read):
        print(textwrap.fill(line, WIDTH, initial_indent="- ", subsequent_indent="  ", break_long_words=False))
    print(f"written to: {shown_path(page.parent)}\nread it: {shown_path(page)}")
    return 0
