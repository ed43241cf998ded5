"""Instruments read the right numbers and leave no trace."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from tests.parts import attention_with, model_with
from torch import Tensor, nn

from normlab.core.records import StepRecord
from normlab.model.clamp import HardClamp
from normlab.model.language_model import LanguageModel
from normlab.model.loss import cross_entropy, plain_loss
from normlab.optim.adamw import adamw
from normlab.telemetry.instruments import Instruments, TelemetrySettings
from normlab.train.backpropagation import Backpropagation, Batch
from normlab.train.step import training_step

BASIC = TelemetrySettings(every=2, has_detail=False, sharpness_every=0, sharpness_iterations=5, sharpness_tolerance=0.1)
NONE = replace(BASIC, every=0)
FULL = replace(BASIC, every=1, has_detail=True)
ARMS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "clamped": {"attention": attention_with(clamp=HardClamp(limit=0.5))},
    "three_layers": {"num_layers": 3, "num_heads": 4},
}
close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6)


def batch_of(step: int) -> Batch:
    tokens = torch.randint(23, (3, 9), generator=torch.Generator().manual_seed(step))
    return Batch(tokens[:, :-1], tokens[:, 1:])


def adamw_for(model: nn.Module) -> torch.optim.AdamW:
    return adamw(model, lr=1e-2, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)


def records_of(model: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int) -> Iterator[StepRecord]:
    passes = Backpropagation(model, plain_loss, precision=nullcontext(), compile=False)
    for step in range(1, num_steps + 1):
        result = training_step(model, optimizer, passes, batch_of(step), lr=1e-2, grad_clip=0.1)
        passes.cross_entropy(batch_of(0))  # a validation, which nobody watches
        yield StepRecord(step=step, tokens=0, seconds=0, lr=1e-2, train_loss=result.loss, grad_norm=result.grad_norm)


def instruments_on(
    settings: TelemetrySettings, model: LanguageModel, optimizer: torch.optim.Optimizer, is_apart: bool = False
) -> Instruments:
    @torch.no_grad()
    def run_model(step: int) -> None:
        model(batch_of(step).inputs_BT)

    return Instruments(
        settings,
        model,
        optimizer,
        is_apart=is_apart,
        run_model=run_model,
        weights_are_gone=lambda: False,
        measure_sharpness=dict,
    )


def observed(
    settings: TelemetrySettings, model: LanguageModel, num_steps: int = 4, is_apart: bool = False
) -> list[StepRecord]:
    optimizer = adamw_for(model)
    instruments = instruments_on(settings, model, optimizer, is_apart)
    return list(instruments.observed(records_of(model, optimizer, num_steps), 1))


@pytest.mark.parametrize("arm", ARMS)
def test_losses_and_weights_are_the_same_bits_with_and_without(arm: str) -> None:
    models = [model_with(**ARMS[arm]) for _ in range(2)]
    without, watched = observed(NONE, models[0]), observed(FULL, models[1])
    assert [(r.train_loss, r.grad_norm) for r in without] == [(r.train_loss, r.grad_norm) for r in watched]
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)
    assert not any(record.telemetry for record in without)
    assert all(record.telemetry for record in watched)


def test_gradients_are_the_same_bits_while_a_pass_is_watched() -> None:
    gradients = []
    for settings in (NONE, FULL):
        model = model_with()
        instruments = instruments_on(settings, model, adamw_for(model))
        instruments._arm(1)
        cross_entropy(model(batch_of(1).inputs_BT), batch_of(1).targets_BT).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_steps_that_are_due_are_the_first_and_the_multiples() -> None:
    watched = observed(BASIC, model_with(), num_steps=5)
    assert [record.step for record in watched if record.telemetry] == [1, 2, 4]


def test_nothing_stays_attached() -> None:
    model = model_with()
    observed(BASIC, model)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_every_site_is_read_before_the_update() -> None:
    told = observed(FULL, model_with(), num_steps=1)[0].telemetry
    model = model_with()
    tokens = batch_of(1).inputs_BT
    stream = model.token_embedding.weight[tokens]
    expected = {"embedding": stream}
    layers: list[Any] = list(model.layers)
    for index, layer in enumerate(layers):
        attention, ffn = layer.attention, layer.ffn
        update = attention(layer.attention_path.input_norm(stream))
        stream = stream + update
        normed = layer.ffn_path.input_norm(stream)
        hidden = nn.functional.silu(ffn.gate(normed)) * ffn.up(normed)
        expected |= {f"attention/layer_{index}": update, f"ffn_hidden/layer_{index}": hidden}
        expected[f"ffn/layer_{index}"] = hidden @ ffn.down.weight.T
        stream = stream + expected[f"ffn/layer_{index}"]
        expected[f"residual/layer_{index}"] = stream
    expected["logits"] = model.final_norm(stream) @ model.head.weight.T
    for site, x in expected.items():
        assert told[f"activation_rms/{site}"] == pytest.approx(x.square().mean().sqrt().item(), rel=1e-5), site
        assert told[f"activation_absmax/{site}"] == pytest.approx(x.abs().max().item(), rel=1e-5), site
        x.retain_grad()
    cross_entropy(expected["logits"], batch_of(1).targets_BT).backward()
    for site, x in expected.items():
        assert x.grad is not None
        rms = x.grad.square().mean().sqrt().item()
        assert told[f"gradient_rms/{site}"] == pytest.approx(rms, rel=1e-4), site
    assert {tag for tag in told if tag.startswith("activation_rms")} == {f"activation_rms/{site}" for site in expected}


@pytest.mark.parametrize("limit", [None, 0.5, 1e9])
def test_attention_is_read_exactly_though_the_kernel_hides_it(limit: float | None) -> None:
    clamp = nn.Identity() if limit is None else HardClamp(limit=limit)
    arm = {"num_layers": 1, "attention": attention_with(clamp=clamp)}
    told = observed(FULL, model_with(**arm), num_steps=1)[0].telemetry
    model = model_with(**arm)
    layer: Any = model.layers[0]
    x = layer.attention_path.input_norm(model.token_embedding.weight[batch_of(1).inputs_BT])
    split = [
        projection(x).unflatten(-1, (2, 8)).transpose(1, 2)
        for projection in (layer.attention.query, layer.attention.key)
    ]
    query, key = (model.position.rotate(part).double() for part in split)
    for head in range(2):
        largest, entropies, num_hits, num_logits = -math.inf, [], 0, 0
        for sequence in range(3):
            for t in range(8):
                logits = key[sequence, head, : t + 1] @ query[sequence, head, t] / math.sqrt(8)
                largest = max(largest, logits.max().item())
                num_hits += int((logits.abs() > limit).sum()) if limit is not None else 0
                num_logits += t + 1
                weights = (logits if limit is None else logits.clamp(-limit, limit)).softmax(0)
                entropies.append(-(weights * weights.log()).sum().item())
        assert told[f"attention_logit_max/layer_0/head_{head}"] == pytest.approx(largest, rel=1e-5)
        assert told[f"attention_entropy/layer_0/head_{head}"] == pytest.approx(sum(entropies) / 24, rel=1e-5)
        if limit is not None:
            assert told[f"clamp_hit_rate/layer_0/head_{head}"] == pytest.approx(num_hits / num_logits, abs=1e-7)
    heads = [told[f"attention_logit_max/layer_0/head_{head}"] for head in range(2)]
    assert told["attention_logit_max/layer_0"] == max(heads)
    assert ("clamp_hit_rate/layer_0" in told) == (limit is not None)


def test_sequences_are_taken_a_few_at_a_time_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    from normlab.telemetry import attention_statistics

    whole = observed(FULL, model_with(), num_steps=1)[0].telemetry
    monkeypatch.setattr(attention_statistics, "LOGITS_AT_ONCE", 1)
    assert observed(FULL, model_with(), num_steps=1)[0].telemetry == pytest.approx(dict(whole), rel=1e-6)


def test_updates_are_told_by_role_and_layer() -> None:
    model = model_with()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    record = observed(FULL, model, num_steps=1)[0]
    told = record.telemetry
    after = dict(model.named_parameters())

    def norm(tensors: list[Tensor]) -> float:
        return torch.cat([tensor.flatten() for tensor in tensors]).norm().item()

    for group, names in {
        "query": [f"layers.{index}.attention.query.weight" for index in range(2)],
        "ffn_down/layer_1": ["layers.1.ffn.down.weight"],
        "embedding": ["token_embedding.weight"],
        "gains": [name for name in before if name.endswith("gain")],
    }.items():
        weight_norm = norm([before[name] for name in names])
        update_norm = norm([after[name] - before[name] for name in names])
        assert told[f"weight_norm/{group}"] == pytest.approx(weight_norm, rel=1e-5)
        assert told[f"update_norm/{group}"] == pytest.approx(update_norm, rel=1e-4)
        assert told[f"update_ratio/{group}"] == pytest.approx(update_norm / weight_norm, rel=1e-4)
    fresh = model_with()
    cross_entropy(fresh(batch_of(1).inputs_BT), batch_of(1).targets_BT).backward()
    gradient = fresh.get_parameter("layers.1.ffn.down.weight").grad
    assert gradient is not None
    assert told["grad_norm/ffn_down/layer_1"] == pytest.approx(gradient.norm().item(), rel=1e-4)  # before clipping
    roles = [value for tag, value in told.items() if tag.startswith("grad_norm/") and tag.count("/") == 1]
    assert math.hypot(*roles) == pytest.approx(record.grad_norm, rel=1e-5)


def test_a_model_is_watched_in_a_pass_of_its_own_where_hooks_would_not_be_seen() -> None:
    plain = observed(BASIC, model_with())
    apart = observed(BASIC, model_with(), is_apart=True)
    assert [record.train_loss for record in apart] == [record.train_loss for record in plain]
    for one, other in zip(plain, apart, strict=True):
        assert dict(other.telemetry) == pytest.approx(dict(one.telemetry), rel=1e-5)


def test_a_step_that_is_not_finite_is_read_though_it_was_not_due() -> None:
    model = model_with()
    optimizer = adamw_for(model)

    def records() -> Iterator[StepRecord]:
        for record in records_of(model, optimizer, 3):
            if record.step == 2:
                with torch.no_grad():
                    model.get_parameter("layers.1.ffn.down.weight")[0, 0] = math.inf
            yield record

    instruments = instruments_on(replace(BASIC, every=10), model, optimizer)
    first, second, fatal = instruments.observed(records(), 1)
    assert first.telemetry
    assert not second.telemetry
    assert not math.isfinite(fatal.telemetry["activation_absmax/ffn/layer_1"])
    assert math.isfinite(fatal.telemetry["activation_absmax/ffn/layer_0"])


def test_a_step_without_an_update_tells_of_its_activations_alone() -> None:
    model = model_with()
    with torch.no_grad():
        model.get_parameter("layers.1.ffn.down.weight")[0, 0] = math.inf
    told = observed(FULL, model, num_steps=1)[0].telemetry
    assert told["activation_absmax/residual/layer_0"] < 100
    assert not math.isfinite(told["activation_absmax/ffn/layer_1"])
    assert not any(tag.startswith(("update", "weight_norm")) for tag in told)


@pytest.mark.parametrize("settings", [BASIC, FULL], ids=["basic", "full"])
def test_a_step_costs_one_transfer_from_the_device(
    settings: TelemetrySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    transfers: list[str] = []
    for name in ("tolist", "item", "cpu", "numpy", "__bool__", "__float__", "__int__"):
        original = getattr(Tensor, name)

        def counted(self: Tensor, *args: Any, name: str = name, original: Any = original) -> Any:
            transfers.append(name)
            return original(self, *args)

        monkeypatch.setattr(Tensor, name, counted)
    observed(NONE, model_with(), num_steps=1)
    without = len(transfers)
    transfers.clear()
    observed(settings, model_with(), num_steps=1)
    assert len(transfers) == without + 1
