"""Device and precision."""

import pytest
import torch
from torch import Tensor, nn

from normlab.core.errors import ConfigError
from normlab.train.hardware import autocast, choose_device, describe


def test_the_cpu_is_there_and_auto_finds_a_device_that_works() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert torch.ones(2, device=choose_device("auto")).sum().item() == 2.0


@pytest.mark.parametrize(
    ("has_cuda", "has_mps", "chosen"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_auto_prefers_cuda_then_mps(
    monkeypatch: pytest.MonkeyPatch, has_cuda: bool, has_mps: bool, chosen: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)
    monkeypatch.setattr(torch, "empty", lambda *shape, device: None)
    assert choose_device("auto") == torch.device(chosen)


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "", "cpu:x", "xpu:99"])
def test_a_device_that_is_not_there_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_device(name)
    line = f"trainer.device must be auto or a device of this machine; got '{name}'. Try trainer.device=auto."
    assert str(caught.value) == line


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_products_are_in_the_precision_and_weights_and_gradients_in_float32(precision: str, dtype) -> None:
    linear, x = nn.Linear(8, 8), torch.randn(4, 8)
    context = autocast(torch.device("cpu"), precision)

    def forward() -> Tensor:
        with context:
            return linear(x)

    for _ in range(2):  # one context serves every forward pass of a run
        assert forward().dtype == dtype
        assert linear(x).dtype == torch.float32
    forward().float().sum().backward()
    assert linear.weight.dtype == torch.float32
    assert linear.weight.grad is not None
    assert linear.weight.grad.dtype == torch.float32


def test_the_hardware_is_described_for_the_summary() -> None:
    expected = {"device": "cpu", "name": "cpu", "cpu_threads": torch.get_num_threads()}
    assert describe(torch.device("cpu")) == expected
