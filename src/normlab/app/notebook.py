"""What a notebook asks for: runs and sweeps, read from their folders, and models without the command line.

Wrong input raises a UserError, whose text is the one line that the command line would say.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

from normlab.app.announce import announce
from normlab.app.build import build_model as model_as_drawn
from normlab.app.checkpoints import trained_at
from normlab.app.composing import Composer
from normlab.app.config_checks import check_config
from normlab.app.options import CONFIG_FOLDER
from normlab.app.overrides import check_groups, check_single_values, parse_override
from normlab.app.packages import need
from normlab.app.recorded import recorded_config
from normlab.app.resolvers import register_resolvers
from normlab.app.targets import admitted_packages, check_targets
from normlab.core.errors import CheckpointError, UserError
from normlab.core.records import decode_number
from normlab.core.run_folder import RunFolder
from normlab.data.tokenizer import Tokenizer, load_tokenizer
from normlab.model.language_model import LanguageModel
from normlab.report.load import load_sweep
from normlab.report.recorded_plan import PLAN
from normlab.report.records import read_records
from normlab.report.results import SweepResult
from normlab.report.results_csv import fields_of
from normlab.telemetry.past_records import FIELDS
from normlab.train.hardware import choose_device
from normlab.train.intact import LINKS, checkpoints_by_step, step_of, target_of
from normlab.train.saved_state import NAMED_NUMBERS

if TYPE_CHECKING:
    from pandas import DataFrame

NO_NUMBERS = ("notes",)
COUNTS = ("step", "tokens")


@dataclass(frozen=True)
class Run:
    """A run folder. Each part is read when it is asked for, so that of a run under way there is what it has so far.

    ``allow_targets`` are packages of one's own that its configuration may name in ``_target_``; a folder admits none.
    """

    path: Path
    allow_targets: Sequence[str] = ()

    @property
    def config(self) -> DictConfig:
        """The whole configuration, read-only; :func:`compose` makes another one."""
        config = recorded_config(self._folder.config, self.allow_targets)
        OmegaConf.set_readonly(config, True)
        return config

    @property
    def tokenizer(self) -> Tokenizer | None:
        """What made the run's tokens; None where it was trained on token files."""
        return load_tokenizer(self._folder.tokenizer) if self._folder.tokenizer.is_file() else None

    @property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json; empty until the run ends."""
        return _with_numbers(self._folder.read_summary())

    @property
    def outcome(self) -> str | None:
        """How the run ended, in one word; None until then."""
        return self.summary.get("outcome")

    @property
    def autopsy(self) -> str | None:
        """Why the run died, in Markdown; None where it did not."""
        path = self._folder.autopsy_markdown
        return path.read_text(encoding="utf-8") if path.is_file() else None

    @property
    def checkpoints(self) -> dict[str, int]:
        """By the names that :meth:`model` takes the steps of the checkpoints that are there."""
        folder = self._folder.checkpoints
        linked = {link: target for link in LINKS if (target := target_of(folder / link)) is not None}
        paths = {**linked, **{path.name: path for path in checkpoints_by_step(folder).values()}}
        return {name: step for name, path in paths.items() if (step := step_of(path)) is not None}

    def metrics(self) -> "DataFrame":
        """metrics.jsonl: a row a step, NaN also where something was not measured; notes as one text."""
        need("pandas", "metrics()")
        from pandas import DataFrame

        records = read_records(self._folder, announce)
        columns = list(dict.fromkeys([*FIELDS, *(name for record in records for name in record)]))
        numbers = {name: int if name in COUNTS else float for name in columns if name not in NO_NUMBERS}
        rows = [{**record, "notes": " ".join(record.get("notes", ()))} for record in records]
        return DataFrame(rows, columns=columns).astype(numbers).set_index("step")

    def model(self, checkpoint: str = "best", device: str = "cpu") -> LanguageModel:
        """The model with the weights of one of the ``checkpoints``, set to evaluate; raises where there is none."""
        if checkpoint not in self.checkpoints:
            there = ", ".join(map(repr, self.checkpoints)) or "none, as it ended before its first"
            raise CheckpointError(
                f"model() takes the name of a checkpoint of the run; got {checkpoint!r}. There are: {there}."
            )
        path = (self._folder.checkpoints / checkpoint).resolve()
        with torch.random.fork_rng(devices=[]):
            return trained_at(path, self.allow_targets, choose_device(device)).model.eval()

    @property
    def _folder(self) -> RunFolder:
        return RunFolder(self.path)


@dataclass(frozen=True)
class Sweep:
    """A sweep folder, read when something is asked for, also while the sweep runs."""

    path: Path
    allow_targets: Sequence[str] = ()

    @property
    def runs(self) -> dict[str, Run]:
        """Those that have begun, by name, in the order of the sweep; two names may share a run."""
        return {run.name: Run(run.folder, self.allow_targets) for run in self._read().runs}

    def results(self) -> "DataFrame":
        """A row a run: what the sweep varied, rate and seed, how it ended, losses and cause of death; by name."""
        need("pandas", "results()")
        from pandas import DataFrame, to_numeric

        sweep = self._read()
        rows = [{**fields_of(run, sweep), "death_step": run.steps if run.is_dead else None} for run in sweep.runs]
        table = DataFrame(rows, columns=list(rows[0]) if rows else ["name"]).set_index("name")
        for name in table:
            if name in sweep.varied or str not in set(map(type, table[name])):
                with suppress(ValueError):  # options such as none
                    table[name] = to_numeric(table[name])
        return table

    def _read(self) -> SweepResult:
        return load_sweep(self.path)


def open_run(path: str | Path, *, allow_targets: Sequence[str] = ()) -> Run:
    """The run in a folder; raises CheckpointError where there is none."""
    run = Run(Path(path).expanduser(), allow_targets)
    if not RunFolder(run.path).config.is_file():
        hint = (
            f"That is a sweep: type normlab.open_sweep({str(path)!r})."
            if (run.path / PLAN).is_file()
            else "Type normlab.open_run('outputs/<date>/<time>'), as printed at the end of a run."
        )
        raise CheckpointError(f"open_run takes a run folder (one with a config.yaml); got {str(path)!r}. {hint}")
    return run


def open_sweep(path: str | Path, *, allow_targets: Sequence[str] = ()) -> Sweep:
    """The sweep in a folder, or all runs below one; raises CheckpointError where there is none."""
    sweep = Sweep(Path(path).expanduser(), allow_targets)
    try:
        load_sweep(sweep.path)
    except UserError:
        raise CheckpointError(
            f"open_sweep takes a folder with runs in it; got {str(path)!r}. "
            "Type normlab.open_sweep('multirun/<date>/<time>'), as printed at the end of a sweep."
        ) from None
    return sweep


def compose(*overrides: str) -> DictConfig:
    """The configuration that the command line makes of the same arguments, checked as it is there; read-only."""
    register_resolvers()
    parsed = [parse_override(text) for text in overrides]
    composer = Composer("config")
    with _hydra_set_up():
        check_groups(parsed)
        check_single_values(parsed)
        config = composer(overrides)
        check_config(config, admitted_packages(overrides), partial(composer.defaults, overrides))
    with open_dict(config):
        del config["hydra"]
    OmegaConf.set_readonly(config, True)
    return config


def build_model(
    config: DictConfig, *, vocab_size: int, device: str = "cpu", allow_targets: Sequence[str] = ()
) -> LanguageModel:
    """The model of a configuration, with the weights that a run of the same seed begins with; set to train.

    torch's own random numbers go on as if nothing had been drawn.
    """
    check_targets(config, allow_targets)
    with torch.random.fork_rng(devices=[]):
        return model_as_drawn(config, vocab_size, choose_device(device))


@contextmanager
def _hydra_set_up() -> Iterator[None]:
    """While inside, Hydra composes from the project's folder; afterwards from where the notebook has it compose."""
    of_notebook = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3", job_name="normlab"):
            yield
    finally:
        GlobalHydra.instance().hydra = of_notebook


def _with_numbers(value: Any) -> Any:
    """A value from JSON in which the named numbers are what their names say."""
    if isinstance(value, Mapping):
        return {key: _with_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_numbers(item) for item in value]
    return decode_number(value) if value in NAMED_NUMBERS else value
