"""--multirun: readable folders, one for every run, and a death that ends nothing else."""

from pathlib import Path

from normlab.core.run_folder import RunFolder

SMALL = ("model=micro", "tokenizer=bytes", "trainer.steps=3", "trainer.val_tokens=256", "schedule.warmup_steps=1")


def test_a_sweep_makes_one_readable_folder_a_run(command, text_data, tmp_path: Path) -> None:
    said = command("--multirun", "model/norm=rmsnorm,none", "optimizer.lr=1e-3,1e-2", "seed=0,1", *SMALL, *text_data)

    assert said.exit_code == 0
    runs = [RunFolder(path.parent) for path in tmp_path.glob("multirun/*/*/*/summary.json")]
    assert len(runs) == 8
    assert len({run.read_summary()["fingerprint"] for run in runs}) == 8
    for run in runs:
        assert run.path.name.startswith(("norm=rmsnorm,lr=0.0", "norm=none,lr=0.0"))
        assert run.path.name.endswith(run.read_summary()["fingerprint"][:8])
        assert len(run.path.name) <= 100
        assert run.config.is_file() and run.metrics.is_file() and run.samples.is_file()
        assert list(run.tensorboard.iterdir())
    assert "8 runs: 8 completed" in said.out
    assert len([line for line in said.out.splitlines() if line.startswith("[") and "completed, val loss" in line]) == 8


def test_one_death_does_not_end_the_others(command, text_data, tmp_path: Path) -> None:
    fatal_first = "init.scale.factor=1e30,1"
    said = command(
        "--multirun", fatal_first, "init.scale.roles=[ffn_down]", "model/norm=none", *SMALL, *text_data
    )  # fmt: skip
    assert said.exit_code == 0
    assert "2 runs: 1 nonfinite, 1 completed" in said.out


def test_one_crash_does_not_end_the_others_but_shows_in_the_exit_code(
    command, text_data, tmp_path: Path, monkeypatch
) -> None:
    from normlab.app import build

    build_model, calls = build.build_model, []

    def breaks_once(*arguments, **keywords):
        calls.append(arguments)
        if len(calls) == 1:
            raise RuntimeError("a planted fault")
        return build_model(*arguments, **keywords)

    monkeypatch.setattr("normlab.app.build.build_model", breaks_once)
    said = command("--multirun", "seed=0,1,2", *SMALL, *text_data)
    assert said.exit_code == 1
    assert "3 runs: 1 crashed, 2 completed" in said.out


def test_a_run_in_a_sweep_gives_the_same_bytes_as_alone(command, text_data, tmp_path: Path) -> None:
    command("--multirun", "seed=0,1", *SMALL, *text_data, "hydra.sweep.dir=sweep")
    command("seed=1", *SMALL, *text_data, "hydra.run.dir=alone")
    (in_sweep,) = (tmp_path / "sweep").glob("*seed=1*/checkpoints/last/model.safetensors")
    assert in_sweep.read_bytes() == (tmp_path / "alone/checkpoints/last/model.safetensors").read_bytes()


def test_long_and_odd_values_make_legal_folder_names(command, tmp_path: Path) -> None:
    odd = tmp_path / ("a very long folder name with (brackets) & more " * 3)
    odd.mkdir()
    for name in ("a.txt", "c.txt"):
        (odd / name).write_text(f"The cat sat on the mat with {name}. " * 40)
    train, other = (f"'{odd / name}'" for name in ("a.txt", "c.txt"))
    said = command("--multirun", "seed=0", "data=text", f"data.train=[{train}]", f"data.valid={train},{other}", *SMALL)
    assert said.exit_code == 0, said.err
    names = [path.parent.name for path in tmp_path.glob("multirun/*/*/*/summary.json")]
    assert len(names) == 2
    assert {name.rpartition("-")[0] for name in names} == {"valid=a.txt", "valid=c.txt"}
    assert all(len(name) <= 100 and not set(name) & set("()&' /") for name in names)


def test_the_folder_of_a_sweeps_run_can_be_typed_as_it_is(command, text_data, tmp_path: Path) -> None:
    assert command("--multirun", *SMALL, *text_data, "model/ffn=silu,swiglu", "seed=0,1").exit_code == 0
    folder = next(path.parent for path in tmp_path.glob("multirun/**/summary.json")).relative_to(tmp_path)
    assert "=" in folder.name and "," in folder.name
    assert command("task=evaluate", f"checkpoint={folder}").exit_code == 0
    assert "completed already" in command(f"resume={folder}").out
    assert "nonfinite or diverged" in command("task=autopsy", f"run={folder}").err
