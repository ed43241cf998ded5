"""Seeds are a fixed function of the run's seed and a name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.core.seeding import derive_seed


@pytest.mark.parametrize(
    ("seed", "name", "golden"),
    [
        (0, "batches", 2312056721596985416),
        (1, "batches", 7119672969635933958),
        (0, "sample", 1444796784199743730),
        (2**40, "layers.0.ffn.down.weight", 8679873035112097109),
    ],
)
def test_golden_values(seed: int, name: str, golden: int) -> None:
    """A change here changes every number that was ever measured."""
    assert derive_seed(seed, name) == golden


@given(st.integers(), st.text())
def test_every_seed_fits_a_signed_64_bit_integer(seed: int, name: str) -> None:
    assert 0 <= derive_seed(seed, name) < 2**63


def test_seeds_and_names_give_streams_of_their_own() -> None:
    derived = {derive_seed(seed, f"layers.{layer}") for seed in range(50) for layer in range(50)}
    assert len(derived) == 50 * 50
