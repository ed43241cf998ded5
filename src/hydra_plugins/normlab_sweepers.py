"""Hydra's discovery looks here: the project's sweepers, which leave everything to normlab.app.sweeps."""

from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(BasicSweeper):
    """``hydra/sweeper=grid``: every combination, none of them twice, and a report at the end."""

    def __init__(self) -> None:
        super().__init__(max_batch_size=None)
        self.task_function: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands over."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.task_function = task_function

    def sweep(self, arguments: list[str]) -> Any:
        """Run what the sweep's folder has planned; without a plan, as of other tasks than training, all jobs."""
        from normlab.app.sweeps.sweep import is_planned, run_all, run_sweep

        assert self.config is not None and self.launcher is not None
        if not is_planned(self.config):
            return super().sweep(arguments)
        self.task_function.exit_code = run_sweep(Path(self.config.hydra.sweep.dir), self.launcher, run_all)
