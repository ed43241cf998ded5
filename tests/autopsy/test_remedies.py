"""What is offered against a death: it addresses the mechanism, is not there yet, and can be typed."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from tests.autopsy.deaths import BARE, EXPONENTIAL, NORMED, finding, growth_of, setting, story

from normlab.app.build import build_model
from normlab.app.options import CONFIG_FOLDER
from normlab.app.preflight import check_command_line
from normlab.app.resolvers import register_resolvers
from normlab.app.tasks.inspect import architecture_of
from normlab.autopsy.advice import Setting, advise
from normlab.autopsy.commands import command_of, repeatable, with_choice
from normlab.autopsy.finding import Contents, FirstNonfinite
from normlab.autopsy.offers import NUMBERS
from normlab.autopsy.story import Story

RUNS = [
    ("model/norm=none", "attention/softmax=naive", "optimizer.lr=3e-2", "optimizer.eps=1e-12"),
    ("init=fixup", "model/norm=none", "model/residual=fixup", "model/linear=scalar_bias", "attention/softmax=naive"),
    ("model/placement=deepnorm", "attention/softmax=naive", "trainer.grad_clip=null"),
    ("attention/qk_clip=rescale", "model/placement=post", "attention/softmax=naive", "schedule.warmup_steps=0"),
    ("model/linear=sigma_reparam", "model.linear.initial_gain=1", "model/norm=none", "optimizer=lion"),
    ("model/norm=none", "init=gpt2", "init.scale.factor=1e6", "init.scale.roles=[ffn_down]", "optimizer=sgd"),
    ("model.placement.sites=[ffn]", "trainer.grad_clip=null", "model/norm=dyt", "model/output_cap=soft"),
    ("+model/norm@model.per_layer.layer_0.norm=none", "model/norm=l2", "model.norm.eps=1e-30", "loss=z_loss"),
    ("model/norm@model.qk_norm=rmsnorm", "model.qk_norm.eps=1e-30", "attention/clamp=hard", "attention.clamp.limit=99"),
]  # fmt: skip
FINDINGS: list[FirstNonfinite | None] = [
    None,
    EXPONENTIAL,
    finding(site="attention.attend", operation="aten.bmm", kind="product_overflow"),
    finding(site="attention.value", operation="aten.mm", kind="product_overflow"),
    finding(site="ffn.down", operation="aten.mm", kind="product_overflow"),
    finding(site="ffn_path.rule", operation="aten.add", kind="sum_overflow"),
    finding(layer=None, site="loss", operation="aten._log_softmax", kind="loss_overflow"),
    finding(phase="backward", site="ffn.up", operation="aten.mm", kind="product_overflow"),
    finding(phase="optimizer", site="ffn.up.weight", operation="AdamW.step", kind="update_overflow"),
    finding(
        phase="optimizer", site="ffn.up.weight", operation="AdamW.step", kind="update_overflow",
        output=Contents("weight", "float32", (4, 4), None, None, 16),
    ),
    finding(site="attention.attend.softmax", operation="aten.div", kind="zero_over_zero", limit_dtype=None),
    finding(site="attention_path.input_norm", operation="aten.div", kind="zero_over_zero", limit_dtype=None),
    finding(site="attention.query_norm", operation="aten.div", kind="zero_over_zero", limit_dtype=None),
]  # fmt: skip


def choices(found: FirstNonfinite | None, told: Story, given: Setting) -> list[str]:
    return [suggestion.choice for suggestion in advise(found, told, given).suggestions]


def composed(overrides: tuple[str, ...]) -> DictConfig:
    register_resolvers()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return compose("config", list(overrides))


def setting_of(overrides: tuple[str, ...]) -> Setting:
    config = composed(("model=micro", *overrides))
    model = build_model(config, 64, torch.device("cpu"))
    numbers = {key: OmegaConf.select(config, key) for key in NUMBERS}
    return Setting(overrides=overrides, architecture=architecture_of(config, model), numbers=numbers)


def suggested(overrides: tuple[str, ...]) -> dict[str, list[str]]:
    """The arguments of the commands that are suggested for any death of a run, by the choice that each makes."""
    given = setting_of(overrides)
    found = [suggestion for fault in FINDINGS for suggestion in advise(fault, story(), given).suggestions]
    assert found
    return {suggestion.choice: shlex.split(suggestion.command)[2:] for suggestion in found}


@pytest.mark.parametrize(
    "overrides", [*RUNS[:2], *(pytest.param(run, marks=pytest.mark.slow) for run in RUNS[2:])], ids=lambda run: run[0]
)
def test_every_suggestion_is_a_legal_command(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for choice, arguments in suggested(overrides).items():
        assert choice in arguments
        check_command_line(["--cfg", "job", *arguments])


@pytest.mark.slow
@pytest.mark.parametrize("overrides", RUNS, ids=lambda run: run[0])
def test_every_suggestion_changes_the_run(overrides: tuple[str, ...]) -> None:
    before = composed(overrides)
    for choice, arguments in suggested(overrides).items():
        assert composed(tuple(arguments)) != before, choice


def test_what_addresses_an_overflown_softmax() -> None:
    own = ("model/norm=none", "attention/softmax=naive", "optimizer.lr=3e-2")
    advice = advise(EXPONENTIAL, story(), setting(*own))

    first = advice.suggestions[0]
    assert first.command == "python src/run.py model/norm=none attention/softmax=stable optimizer.lr=3e-2"
    assert "not the growth" in first.reason
    assert [suggestion.choice for suggestion in advice.suggestions] == [
        "attention/softmax=stable", "attention/clamp=hard", "attention/clamp=soft", "model/norm@model.qk_norm=rmsnorm",
        "model/norm=rmsnorm", "init/scale=small", "optimizer.lr=0.01",
    ]  # fmt: skip
    assert "bfloat16 has the same range" in " ".join(advice.remarks)


@pytest.mark.parametrize(
    ("changes", "first"),
    [
        (
            {"site": "attention.attend", "operation": "aten.bmm", "kind": "product_overflow"},
            "model/norm@model.qk_norm=",
        ),
        ({"site": "ffn.down", "operation": "aten.mm", "kind": "product_overflow"}, "model/norm=rmsnorm"),
        ({"site": "ffn_path.rule", "operation": "aten.add", "kind": "sum_overflow"}, "model/norm=rmsnorm"),
        ({"site": "loss", "operation": "aten.mean", "kind": "loss_overflow"}, "model/norm=rmsnorm"),
        ({"phase": "backward", "site": "ffn.down", "kind": "product_overflow"}, "model/norm=rmsnorm"),
    ],
)
def test_what_comes_first_without_norms(changes: dict[str, Any], first: str) -> None:
    assert choices(finding(**changes), story(), setting())[0].startswith(first)


def test_an_overflown_feed_forward_starts_smaller_but_not_in_another_precision() -> None:
    overflow = finding(site="ffn.down", operation="aten.mm", kind="product_overflow")
    advice = advise(overflow, story(), setting())
    assert "init/scale=small" in [suggestion.choice for suggestion in advice.suggestions]
    assert any("trainer.precision is no remedy" in remark for remark in advice.remarks)
    in_half = advise(finding(limit_dtype="float16"), story(), setting())
    assert not any("trainer.precision" in remark for remark in in_half.remarks), "float32 has a wider range"


def test_a_stream_that_overflows_despite_norms() -> None:
    overflow = finding(site="ffn_path.rule", operation="aten.add", kind="sum_overflow")
    offered = choices(overflow, story(), setting(architecture=NORMED))
    assert offered[:3] == ["model/placement=peri", "model/residual=rezero", "init/scale=small_out"]


def test_an_overflown_loss_is_capped_and_regularised() -> None:
    overflow = finding(layer=None, site="loss", operation="aten.mean", kind="loss_overflow")
    assert {"model/output_cap=soft", "loss=z_loss"} <= set(choices(overflow, story(), setting()))
    assert "loss=z_loss" not in choices(overflow, story(), setting(loss__coefficient=1e-4))


def test_an_overflown_update_is_made_smaller() -> None:
    weight = finding(
        phase="optimizer", site="ffn.up.weight", operation="AdamW.step", kind="update_overflow",
        output=Contents("weight", "float32", (4, 4), None, None, 16),
    )  # fmt: skip
    quiet = story(growths=(), crossings=())
    assert choices(weight, quiet, setting()) == ["optimizer.lr=0.01", "schedule.warmup_steps=100"]
    unclipped = choices(weight, quiet, setting(trainer__grad_clip=None, optimizer__eps=1e-20))
    assert unclipped[:2] == ["trainer.grad_clip=1", "optimizer.eps=1e-08"]
    assert "schedule.warmup_steps=100" not in choices(weight, story(end_step=101), setting()), "long after warmup"


def test_clipping_comes_too_late_for_an_overflow_on_the_way_back() -> None:
    overflow = finding(phase="backward", site="ffn.up", operation="aten.mm", kind="product_overflow")
    assert any("trainer.grad_clip is no remedy" in remark for remark in advise(overflow, story(), setting()).remarks)


def test_a_division_by_zero_gets_a_larger_eps() -> None:
    norm = finding(site="ffn_path.input_norm", operation="aten.rsqrt", kind="zero_over_zero", limit_dtype=None)
    assert choices(norm, story(), setting(model__norm__eps=1e-50)) == ["model.norm.eps=1e-05"]
    assert choices(norm, story(), setting(model__norm__eps=1e-5)) == []
    queries = finding(site="attention.query_norm", kind="zero_over_zero", limit_dtype=None)
    given = setting(model__norm__eps=1e-50, model__qk_norm__eps=1e-40)
    assert choices(queries, story(), given) == ["model.qk_norm.eps=1e-05"]


def test_exponentials_that_all_vanish_are_kept_from_it_by_a_maximum_or_a_bound() -> None:
    vanished = finding(site="attention.attend.softmax", operation="aten.div", kind="zero_over_zero", limit_dtype=None)
    offered = choices(vanished, story(growths=(), crossings=()), setting())
    assert offered[0] == "attention/softmax=stable"
    assert {"attention/clamp=hard", "attention/clamp=soft", "model/norm=rmsnorm"} <= set(offered)
    assert not any(".eps=" in choice for choice in offered)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"phase": "data", "site": "inputs", "kind": "bad_input"}, "Look at the data"),
        ({"site": "head.weight", "kind": "bad_input"}, "Look at where the weights came from"),
        ({"kind": "inf_minus_inf", "operation": "aten._softmax", "limit_dtype": None}, "A row of attention logits"),
    ],
)
def test_no_option_mends_what_was_wrong_before(changes: dict[str, Any], said: str) -> None:
    advice = advise(finding(**changes), story(), setting())
    assert advice.suggestions == ()
    assert len(advice.remarks) == 1 and advice.remarks[0].startswith(said)


def test_nothing_that_acts_through_updates_before_the_first() -> None:
    advice = advise(EXPONENTIAL, story(end_step=1), setting())
    offered = [suggestion.choice for suggestion in advice.suggestions]
    assert "attention/softmax=stable" in offered
    assert not any(choice.startswith(("optimizer", "schedule", "trainer", "loss=")) for choice in offered)
    assert advice.remarks[0].startswith("No update had been made")


@pytest.mark.parametrize(
    ("tag", "first"),
    [
        ("attention_logit_max/layer_1", "model/norm@model.qk_norm=rmsnorm"),
        ("attention_entropy/layer_1", "model/norm@model.qk_norm=rmsnorm"),
        ("activation_rms/residual/layer_1", "model/placement=peri"),
        ("activation_absmax/ffn/layer_1", "init/scale=small"),
        ("activation_rms/logits", "model/output_cap=soft"),
        ("grad_norm", "model/residual=rezero"),
        ("update_ratio/query", "optimizer.lr=0.01"),
    ],
)
def test_without_a_finding_the_first_growth_decides(tag: str, first: str) -> None:
    told = story(growths=(growth_of(tag), growth_of("update_ratio/key", began_at=50)), crossings=())
    assert choices(None, told, setting(architecture=NORMED))[0] == first


def test_a_threshold_crossed_earlier_decides_but_not_one_that_was_so_at_the_start() -> None:
    late = (growth_of("update_ratio/key", began_at=50),)
    assert choices(None, story(growths=late), setting(architecture=NORMED))[0] == "model/norm@model.qk_norm=rmsnorm"
    from_the_start = tuple(replace(crossing, step=1) for crossing in story().crossings)
    told = story(growths=late, crossings=from_the_start)
    assert choices(None, told, setting(architecture=NORMED))[0] == "optimizer.lr=0.01"


def test_a_gradient_that_grew_first_is_clipped_where_it_was_not() -> None:
    told = story(growths=(growth_of("grad_norm"),), crossings=())
    assert "trainer.grad_clip=1" in choices(None, told, setting(architecture=NORMED, trainer__grad_clip=None))
    assert "trainer.grad_clip=1" not in choices(None, told, setting(architecture=NORMED))


def test_what_is_chosen_already_is_not_offered() -> None:
    everything = replace(NORMED, clamp_limit=30.0, has_qk_norm=True)
    assert choices(EXPONENTIAL, story(), setting(architecture=everything)) == ["optimizer.lr=0.01"]
    assert "optimizer.lr=0.01" not in choices(EXPONENTIAL, story(), setting("optimizer.lr=0.01", architecture=BARE))


def test_enlarged_weights_come_before_bounds_on_what_they_make() -> None:
    enlarged = replace(BARE, init_scale_factor=1e30, init_scale_roles=["ffn_down"])
    overflow = finding(site="attention.attend", operation="aten.bmm", kind="product_overflow")
    assert choices(overflow, story(end_step=1), setting(architecture=enlarged))[0] == "init/scale=unit"


def test_another_kind_of_accident_gets_no_advice_but_what_grew() -> None:
    odd = finding(kind="other", operation="aten.atan2", limit_dtype=None)
    advice = advise(odd, story(growths=(), crossings=()), setting())
    assert "No option here is known to address it." in advice.remarks


@pytest.mark.parametrize(
    ("own", "choice", "expected"),
    [
        (["model/norm=none", "seed=1"], "model/norm=rmsnorm", ["model/norm=rmsnorm", "seed=1"]),
        (["model/norm=dyt", "model.norm.initial_alpha=1"], "model/norm=l2", ["model/norm=l2"]),
        (["model.norm.eps=1e-3"], "model.norm.eps=1e-05", ["model.norm.eps=1e-05"]),
        (["model/norm=none"], "model/norm@model.qk_norm=l2", ["model/norm=none", "model/norm@model.qk_norm=l2"]),
        (["++optimizer.lr=1", "optimizer=sgd"], "optimizer.lr=0.3", ["optimizer.lr=0.3", "optimizer=sgd"]),
        (["init.scale.factor=9", "init.scale.roles=[key]"], "init/scale=unit", ["init/scale=unit"]),
        (
            ["init/scale=small", "init.scale.factor=9"],
            "init=gpt2",
            ["init/scale=small", "init.scale.factor=9", "init=gpt2"],
        ),
        (["optimizer.lr=1", "optimizer.lr=2"], "optimizer.lr=3", ["optimizer.lr=3"]),
    ],
)
def test_a_choice_takes_the_place_of_what_was_chosen(own: list[str], choice: str, expected: list[str]) -> None:
    assert list(with_choice(own, choice)) == expected


def test_commands_can_be_typed_in_any_shell_and_belong_to_another_run() -> None:
    own = ["data.train=[a.txt,my b.txt]", "hydra.run.dir=x", "hydra/launcher=basic", "resume=outputs/x", "seed=1"]
    assert command_of(repeatable(own)) == "python src/run.py 'data.train=[a.txt,my b.txt]' seed=1"
