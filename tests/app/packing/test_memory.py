"""What a run is predicted to take is what it takes."""

from types import SimpleNamespace

import torch
from torch import Tensor

from normlab.app.packing.memory import Room, kept_by_forward_pass
from normlab.model.language_model import LanguageModel
from normlab.model.loss import plain_loss
from normlab.train.pack_template import template_of

BATCH_SIZE, CONTEXT_LENGTH = 4, 32


def experiment_of(model: LanguageModel) -> SimpleNamespace:
    return SimpleNamespace(
        model=model,
        loss=plain_loss,
        device=torch.device("cpu"),
        settings=SimpleNamespace(precision="float32"),
        batches=SimpleNamespace(batch_size=BATCH_SIZE, context_length=CONTEXT_LENGTH),
    )


def test_what_a_forward_pass_keeps_is_foretold_to_the_byte(micro: LanguageModel) -> None:
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    foretold = kept_by_forward_pass(experiment_of(micro))  # type: ignore[arg-type]
    tokens = torch.zeros(BATCH_SIZE, CONTEXT_LENGTH, dtype=torch.long)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*micro.parameters(), *micro.buffers())}
    template = template_of(micro)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        weights = {**dict(micro.named_parameters()), **dict(micro.named_buffers())}
        plain_loss(torch.func.functional_call(template, weights, (tokens,)), tokens)
    measured = sorted(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)
    assert sorted(foretold) == measured
    assert sum(measured) > BATCH_SIZE * CONTEXT_LENGTH * micro.vocab_size * 4


def test_as_many_have_room_as_memory_holds(micro: LanguageModel, monkeypatch) -> None:
    experiment = experiment_of(micro)
    monkeypatch.setattr("normlab.app.packing.memory.run_bytes", lambda experiment: 10)
    monkeypatch.setattr("normlab.app.packing.memory.free_bytes", lambda: 50)
    room = Room(max_runs=24)
    assert [room(experiment, number) for number in range(1, 6)] == [True, True, True, False, False]  # type: ignore[arg-type]
    monkeypatch.setattr("normlab.app.packing.memory.free_bytes", lambda: None)
    assert [Room(max_runs=2)(experiment, number) for number in (1, 2)] == [True, False]  # type: ignore[arg-type]
