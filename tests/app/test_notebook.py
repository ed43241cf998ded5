"""The Python API and the page about it, on a sweep of two small runs, the second of which died at its second step."""

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from omegaconf.errors import ReadonlyConfigError
from safetensors.torch import load_file
from tests.commands import FOLDERS

import normlab
from normlab.app.cli import main
from normlab.app.options import CONFIG_FOLDER
from normlab.core.records import decode_number
from normlab.core.run_folder import RunFolder

SMALL = (
    "model=micro", "tokenizer=bytes", "data=text", "data.train=[a.txt]", "data.valid=a.txt", "trainer.batch_size=2",
    "trainer.val_tokens=64", "schedule.warmup_steps=1", "logger=none", "attention/softmax=naive", "trainer.steps=4",
    "trainer.val_every=2", "trainer.checkpoint_every=2", "telemetry=none", "optimizer.lr=0.3",
)  # fmt: skip
ALIVE = "model/norm=rmsnorm"
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "notebooks.md").read_text()


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> normlab.Sweep:
    folder = tmp_path_factory.mktemp("notebook")
    (folder / "a.txt").write_text("a" * 2000)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        place = f"hydra.sweep.dir={FOLDERS['multirun/<date>/<time>']}"
        patch.setattr(sys, "argv", ["run.py", "--multirun", *SMALL, f"{ALIVE},none", place])
        assert main() == 0
    return normlab.open_sweep(folder / FOLDERS["multirun/<date>/<time>"])


@pytest.fixture(scope="module")
def alive(sweep: normlab.Sweep) -> normlab.Run:
    return next(iter(sweep.runs.values()))


@pytest.fixture(scope="module")
def dead(sweep: normlab.Sweep) -> normlab.Run:
    return list(sweep.runs.values())[1]


def test_the_package_imports_nothing_and_knows_its_names() -> None:
    slow = "{'torch', 'hydra', 'pandas', 'normlab.app'}"
    script = f"import sys, normlab as n; assert not {slow} & set(sys.modules) and set(n.__all__) <= set(dir(n))"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert all(callable(getattr(normlab, name)) for name in normlab.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'open_runs'"):
        _ = normlab.open_runs  # type: ignore[attr-defined]


def test_metrics_have_every_number_that_was_written(alive: normlab.Run, dead: normlab.Run) -> None:
    for run, steps in ((alive, [1, 2, 3, 4]), (dead, [1, 2])):
        table = run.metrics()
        assert table.index.name == "step" and table.index.tolist() == steps
        for record in RunFolder(run.path).read_metrics():
            row = table.loc[record["step"]]
            assert record.keys() - {"step"} <= set(table.columns)
            for name in record.keys() - {"step", "notes"}:
                assert row[name] == decode_number(record[name]) or (math.isnan(row[name]) and record[name] == "NaN")
            assert row.notes == " ".join(record.get("notes", ()))
        assert set(table.drop(columns="notes").dtypes.astype(str)) == {"int64", "float64"}
    assert math.isfinite(dead.metrics().train_loss[1]) and not math.isfinite(dead.metrics().train_loss[2])
    assert alive.metrics().val_loss.notna().tolist() == [False, True, False, True]


def test_a_run_that_has_not_begun_its_first_step_has_an_empty_table(alive: normlab.Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((alive.path / "config.yaml").read_text())
    begun = normlab.open_run(tmp_path)
    assert len(begun.metrics()) == 0 and {"train_loss", "val_loss"} <= set(begun.metrics().columns)
    assert (begun.summary, begun.checkpoints) == ({}, {})
    assert (begun.outcome, begun.autopsy, begun.tokenizer) == (None, None, None)


def test_a_run_tells_how_it_ended(alive: normlab.Run, dead: normlab.Run) -> None:
    assert (alive.outcome, alive.autopsy) == ("completed", None)
    assert dead.outcome == "nonfinite" and dead.autopsy is not None and dead.autopsy.startswith("# ")
    assert alive.summary["final_val_loss"] == json.loads((alive.path / "summary.json").read_text())["final_val_loss"]


def test_names_of_numbers_in_the_summary_are_numbers(alive: normlab.Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((alive.path / "config.yaml").read_text())
    written = {"final_train_loss": "NaN", "events": [{"loss": "-Infinity"}], "error": "1"}
    (tmp_path / "summary.json").write_text(json.dumps(written))
    summary = normlab.open_run(tmp_path).summary
    assert math.isnan(summary["final_train_loss"])
    assert summary["events"] == [{"loss": -math.inf}] and summary["error"] == "1"


def test_a_model_has_the_weights_of_the_checkpoint_and_is_set_to_evaluate(alive: normlab.Run) -> None:
    names = {"last": 4, "best": alive.checkpoints["best"], "last_finite": 4, "step_4": 4, "step_2": 2}
    assert alive.checkpoints == names and names["best"] in (2, 4)
    before = torch.manual_seed(7).get_state()
    model = alive.model("step_2")
    assert torch.equal(torch.get_rng_state(), before)
    assert not model.training
    saved = load_file(alive.path / "checkpoints" / "step_2" / "model.safetensors")
    own = model.state_dict()
    assert saved.keys() <= own.keys() and all(torch.equal(own[name], weight) for name, weight in saved.items())
    tokenizer = alive.tokenizer
    assert tokenizer is not None and tokenizer.decode(tokenizer.encode("The cat")) == "The cat"
    assert model(torch.tensor([tokenizer.encode("The cat")])).shape == (1, 7, tokenizer.vocab_size)


def test_a_composed_model_begins_as_a_run_does(alive: normlab.Run) -> None:
    """Every window of the training text is the same, so that the loss of the first step can be had by itself."""
    config = normlab.compose(*SMALL, ALIVE)
    assert OmegaConf.to_container(config, resolve=True) == OmegaConf.to_container(alive.config, resolve=True)
    before = torch.manual_seed(7).get_state()
    fresh = normlab.build_model(config, vocab_size=257)
    assert torch.equal(torch.get_rng_state(), before) and fresh.training
    losses = alive.metrics().train_loss
    assert loss_on_text(fresh) == pytest.approx(losses[1], rel=1e-5)
    assert loss_on_text(fresh) != pytest.approx(losses[2], rel=1e-3)
    other = normlab.build_model(normlab.compose(*SMALL, ALIVE, "seed=1"), vocab_size=257)
    assert loss_on_text(other) != pytest.approx(losses[1], rel=1e-3)


def loss_on_text(model: torch.nn.Module) -> float:
    tokens_T = torch.full((32,), ord("a"))
    with torch.no_grad():
        return torch.nn.functional.cross_entropy(model(tokens_T[None])[0], tokens_T).item()


def test_a_configuration_is_changed_by_composing_another(alive: normlab.Run) -> None:
    for config in (normlab.compose(), alive.config):
        assert "hydra" not in config
        with pytest.raises(ReadonlyConfigError):
            config.model.width = 5
    assert normlab.compose("model.width=96", "model.num_heads=3").model.ffn.hidden_width == 256


def test_composing_leaves_hydra_as_it_was() -> None:
    normlab.compose("seed=1")
    assert not GlobalHydra.instance().is_initialized()
    with initialize_config_dir(str(CONFIG_FOLDER / "optimizer"), version_base="1.3"):
        assert normlab.compose("seed=2").seed == 2
        assert compose("sgd").lr > 0


def test_results_have_a_row_a_run(sweep: normlab.Sweep, alive: normlab.Run) -> None:
    table = sweep.results()
    assert list(table.index) == list(sweep.runs)
    assert table["model/norm"].tolist() == ["rmsnorm", "none"]
    assert table.lr.tolist() == [0.3, 0.3] and table.seed.tolist() == [0, 0]
    assert table.outcome.tolist() == ["completed", "nonfinite"]
    assert table.death_step.fillna(0).tolist() == [0, 2]
    assert table.final_val_loss.iloc[0] == alive.summary["final_val_loss"]
    assert table.final_val_loss.notna().tolist() == table.cause_kind.isna().tolist() == [True, False]


def test_what_was_varied_are_numbers_where_all_are(tmp_path: Path) -> None:
    for number, depth in enumerate(("2", "10")):
        run = tmp_path / f"run{number}"
        (run / ".hydra").mkdir(parents=True)
        (run / ".hydra" / "overrides.yaml").write_text(f"- model.num_layers={depth}\n- init=init{number}\n")
        (run / "config.yaml").write_text("seed: 0")
        (run / "summary.json").write_text('{"outcome": "completed", "steps": 3, "git_commit": "12345"}')
    table = normlab.open_sweep(tmp_path).results()
    assert table["model.num_layers"].tolist() == [2, 10] and table.init.tolist() == ["init0", "init1"]
    assert table.git_commit.tolist() == ["12345", "12345"]
    assert table.final_val_loss.dtype == table.death_step.dtype == float


def test_a_sweep_that_has_not_begun_has_no_rows(sweep: normlab.Sweep, tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text((sweep.path / "sweep.json").read_text())
    waiting = normlab.open_sweep(tmp_path)
    assert waiting.runs == {} and len(waiting.results()) == 0


def test_a_folder_admits_no_code(alive: normlab.Run, tmp_path: Path) -> None:
    config = OmegaConf.load(alive.path / "config.yaml")
    OmegaConf.update(config, "model._target_", "elsewhere.Model")
    OmegaConf.update(config, "allow_targets", ["elsewhere"])
    OmegaConf.save(config, tmp_path / "config.yaml")
    with pytest.raises(normlab.UserError, match=r"model\._target_ must be one of normlab's own"):
        _ = normlab.open_run(tmp_path).config
    admitted = normlab.open_run(tmp_path, allow_targets=["elsewhere"]).config
    with pytest.raises(normlab.UserError, match=r"model\._target_ must be one of normlab's own"):
        normlab.build_model(admitted, vocab_size=257)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda *_: normlab.open_run("nowhere"), "open_run takes a run folder (one with a config.yaml); got 'nowhere'"),
        (lambda sweep, *_: normlab.open_run(sweep.path), "That is a sweep: type normlab.open_sweep('"),
        (lambda *_: normlab.open_sweep("nowhere"), "open_sweep takes a folder with runs in it; got 'nowhere'"),
        (lambda _, alive, dead: alive.model("first"), "There are: 'last', 'best', 'last_finite', 'step_4', 'step_2'."),
        (lambda _, alive, dead: dead.model(), "got 'best'. There are: none, as it ended before its first"),
        (lambda *_: normlab.compose("model.norm=none"), "Type model/norm=none."),
        (lambda *_: normlab.compose("model.widht=64"), "model.widht"),
        (lambda *_: normlab.compose("seed=0,1"), "One run takes one value for every key; got seed=0,1."),
        (lambda *_: normlab.compose("model.width=65"), "model.width must be divisible by model.num_heads"),
        (lambda *_: normlab.compose("--multirun"), "Every argument must read group=option or key=value"),
    ],
)
def test_wrong_input_is_told_in_one_line(
    wrong: Callable[..., object], told: str, sweep: normlab.Sweep, alive: normlab.Run, dead: normlab.Run
) -> None:
    with pytest.raises(normlab.UserError) as error:
        wrong(sweep, alive, dead)
    assert told in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("asked", ["metrics", "results"])
def test_without_pandas_there_is_the_line_that_installs_it(
    asked: str, sweep: normlab.Sweep, alive: normlab.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(normlab.UserError, match=rf"{asked}\(\) needs pandas, .*Type uv sync --extra notebook, or pip"):
        sweep.results() if asked == "results" else alive.metrics()


def test_the_blocks_of_the_page_run_in_order(
    sweep: normlab.Sweep, alive: normlab.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    matplotlib.use("agg")
    monkeypatch.chdir(sweep.path.parents[1])
    shutil.copytree(alive.path, FOLDERS["outputs/<date>/<time>"], symlinks=True)
    names: dict[str, Any] = {}
    for block in blocks("python"):
        for placeholder, folder in FOLDERS.items():
            block = block.replace(placeholder, folder)
        exec(compile(block, "docs/notebooks.md", "exec"), names)
    assert capsys.readouterr().out == blocks("text")[0]
    assert len(names["metrics"]) == 4 and len(names["sizes"]) == len(names["model"].layers)
    crosses = [line.get_xdata() for line in names["axes"].lines if line.get_marker() == "x"]
    assert [list(steps) for steps in crosses] == [[1]]
    assert Path("losses.png").read_bytes().startswith(b"\x89PNG")
    names["plt"].close(names["figure"])


def test_every_part_of_a_run_is_on_the_page() -> None:
    parts = {name for name in vars(normlab.Run) if not name.startswith("_")} - {"allow_targets"}
    assert set(re.findall(r"`run\.(\w+)", PAGE)) == parts


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
