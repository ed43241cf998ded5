"""Hydra's discovery looks here: the project's launcher, which leaves everything to normlab.app.packing."""

from collections.abc import Sequence
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn


class PackedLauncher(BasicLauncher):
    """``hydra/launcher=packed``: runs that share a graph train side by side, at most ``max_runs`` at a time."""

    def __init__(self, max_runs: int) -> None:
        super().__init__()
        self.max_runs = max_runs

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any | Sequence[JobReturn]:
        """Run the jobs; return what they did, in their order."""
        from normlab.app.packing.launching import launch_packed

        assert self.hydra_context is not None and self.config is not None and self.task_function is not None
        return launch_packed(
            self.hydra_context, self.task_function, self.config, job_overrides, initial_job_idx, self.max_runs
        )
