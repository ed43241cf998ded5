"""Which runs share a graph."""

import pytest
from hydra import compose, initialize_config_dir

from normlab.app.options import CONFIG_FOLDER
from normlab.app.packing.graphs import graph_of
from normlab.app.packing.launching import in_groups
from normlab.app.resolvers import register_resolvers

BASE = ("model=micro", "attention/clamp=hard")


def graph(*overrides: str) -> str | None:
    register_resolvers()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3", job_name="normlab"):
        return graph_of(compose("config", [*BASE, *overrides]))


@pytest.mark.parametrize(
    "value",
    ["seed=1", "optimizer=sgd", "init=gpt2", "attention.clamp.limit=3", "trainer.grad_clip=null", "trainer.steps=9"],
)
def test_values_are_no_part_of_it(value: str) -> None:
    assert graph() == graph(value)


@pytest.mark.parametrize(
    "choice",
    [
        "model/norm=none",
        "model.width=16",
        "loss=z_loss",
        "trainer.batch_size=3",
        "trainer.global_batch=4",
        "attention/clamp=soft",
    ],
)
def test_structure_is(choice: str) -> None:
    assert graph() != graph(choice)


def test_equal_graphs_come_together_in_order_and_what_has_none_stays_alone() -> None:
    assert graph("task=inspect") is None
    assert in_groups(["a", "b", None, "a", None]) == [[0, 3], [1], [2], [4]]
