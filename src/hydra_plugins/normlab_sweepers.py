"""Hydra's discovery looks here: the project's sweepers, which leave everything to normlab.app.sweeps."""

from abc import abstractmethod
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class PlannedSweeper(BasicSweeper):
    """Runs what the sweep's folder has planned; without a plan, as of other tasks than training, every combination."""

    def __init__(self) -> None:
        super().__init__(max_batch_size=None)
        self.task_function: Any = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra hands over."""
        super().setup(hydra_context=hydra_context, task_function=task_function, config=config)
        self.task_function = task_function

    def sweep(self, arguments: list[str]) -> Any:
        """Run the sweep, and leave its exit code where the command line looks for it."""
        from normlab.app.sweeps.sweep import is_planned, run_sweep

        assert self.config is not None and self.launcher is not None
        if not is_planned(self.config):
            return super().sweep(arguments)
        self.task_function.exit_code = run_sweep(Path(self.config.hydra.sweep.dir), self.launcher, self.rounds())

    @abstractmethod
    def rounds(self) -> Any:
        """What launches the runs."""


class GridSweeper(PlannedSweeper):
    """``hydra/sweeper=grid``: every combination, none of them twice."""

    def rounds(self) -> Any:
        from normlab.app.sweeps.sweep import run_all

        return run_all


class FrontierSweeper(PlannedSweeper):
    """``hydra/sweeper=frontier``: each variant's largest stable and best learning rate, by search."""

    def __init__(self, lowest: float, highest: float, per_decade: int) -> None:
        super().__init__()
        self.rates = {"lowest": lowest, "highest": highest, "per_decade": per_decade}

    def rounds(self) -> Any:
        from normlab.app.sweeps.frontier import FrontierRounds
        from normlab.app.sweeps.rates import RateGrid

        assert self.hydra_context is not None and self.config is not None
        loader, config = self.hydra_context.config_loader, self.config
        return FrontierRounds(RateGrid(**self.rates), lambda texts: loader.load_sweep_config(config, list(texts)))
