"""From what is known of a death to its autopsy, written into the run folder and said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from normlab.app.tasks.inspect import architecture_of
from normlab.autopsy.advice import Setting, advise
from normlab.autopsy.autopsy import Autopsy
from normlab.autopsy.finding import FirstNonfinite
from normlab.autopsy.history import history_from
from normlab.autopsy.limits import limits_of
from normlab.autopsy.offers import NUMBERS
from normlab.autopsy.report import markdown_report
from normlab.autopsy.tell import tell
from normlab.autopsy.terminal import terminal_text
from normlab.core.errors import CheckpointError, UserError
from normlab.core.files import write_whole
from normlab.core.records import Outcome, encode_json
from normlab.core.run_folder import RunFolder
from normlab.model.language_model import LanguageModel
from normlab.telemetry.sinks import Sink

FIGURE = "autopsy_growth"


@dataclass(frozen=True, kw_only=True)
class Death:
    """How a run ended, the first value of the fatal step that was not finite, and its last steps' recomputed records.

    ``what`` says in words what was wrong with the step; ``replayed`` from what the step was replayed, None where it
    was not; ``statistics`` where those of the last steps came from.
    """

    outcome: Outcome
    step: int
    what: str
    finding: FirstNonfinite | None
    last_records: Sequence[Mapping[str, Any]]
    replayed: str | None
    statistics: str


def write_autopsy(config: DictConfig, folder: RunFolder, model: LanguageModel, death: Death, logger: Sink) -> str:
    """Tell the story, write autopsy.json, autopsy.md and the figure, hand them to the logger; return ten lines.

    ``model`` is the run's, as it was drawn. Raises CheckpointError, with nothing written, for records of a run that
    hold something else than numbers.
    """
    try:
        history = history_from([*folder.read_metrics(), *death.last_records])
    except (TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise CheckpointError(
            f"{folder.metrics} and {folder.recomputed_steps} must hold numbers alone, beside notes; one of them does "
            f"not ({error}). Start the run again."
        ) from None
    story = tell(history, death.step, limits_of(model))
    numbers = {key: OmegaConf.select(config, key, default=None) for key in NUMBERS}
    overrides = overrides_of(folder)
    setting = Setting(overrides=overrides, architecture=architecture_of(config, model), numbers=numbers)
    autopsy = Autopsy(
        outcome=death.outcome,
        step=death.step,
        what=death.what,
        overrides=overrides,
        finding=death.finding,
        story=story,
        advice=advise(death.finding, story, setting),
        replayed=death.replayed,
        statistics=death.statistics,
    )
    png = _growth_png(history, autopsy)
    if png is not None:
        write_whole(folder.figures / f"{FIGURE}.png", png)
        logger.image(f"autopsy/{FIGURE}", png, death.step)
    write_whole(folder.autopsy_json, encode_json(autopsy.as_dict(), indent=2) + "\n")
    write_whole(folder.autopsy_markdown, markdown_report(autopsy, has_figure=png is not None))
    logger.text("autopsy", markdown_report(autopsy, has_figure=False))
    return terminal_text(autopsy)


def _growth_png(history: Any, autopsy: Autopsy) -> bytes | None:
    # Matplotlib is slow to import, and most runs do not die.
    from normlab.autopsy.figure_of_growth import growth_figure
    from normlab.telemetry.figure_style import as_png

    figure = growth_figure(history, autopsy.story, autopsy.outcome)
    return None if figure is None else as_png(figure)


def overrides_of(folder: RunFolder) -> list[str]:
    """What the run was started with, as Hydra has written it down."""
    path = Path(folder.path, ".hydra", "overrides.yaml")
    return [str(text) for text in OmegaConf.load(path)] if path.is_file() else []
