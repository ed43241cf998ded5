"""Joined arrays read as one; a mixture draws its sources as often as the weights say and never over a border."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.core.errors import ConfigError, DataError
from normlab.data.mixture import JoinedTokens, Mixture
from normlab.data.windows import gather

LENGTHS = (40, 25, 60)


def mixture(weights: list[float], lengths: tuple[int, ...] = LENGTHS) -> Mixture:
    """Sources whose tokens tell them apart: source i holds 1000 i, 1000 i + 1, ..."""
    return Mixture([1000 * index + np.arange(length) for index, length in enumerate(lengths)], weights)


def draw(mixed: Mixture, *, seed: int = 0, step: int = 1, batch_size: int = 8, context_length: int = 4) -> list[int]:
    return mixed.offsets(batch_size=batch_size, context_length=context_length, seed=seed, step=step).tolist()


@given(st.lists(st.lists(st.integers(0, 65_535)), min_size=1).filter(any), st.data())
def test_joined_arrays_read_as_their_concatenation(parts, data) -> None:
    joined, expected = JoinedTokens([np.array(part, np.uint16) for part in parts]), np.concatenate(parts)
    assert len(joined) == len(expected)
    shape = data.draw(st.sampled_from([(0,), (5,), (2, 3)]))
    indices = st.integers(0, len(expected) - 1)
    size = int(np.prod(shape))
    positions = np.array(data.draw(st.lists(indices, min_size=size, max_size=size)), np.int64).reshape(shape)
    assert joined[positions].tolist() == expected[positions].tolist()


@pytest.mark.parametrize("position", [-1, 5])
def test_a_position_outside_raises(position) -> None:
    with pytest.raises(IndexError, match="0 to 4"):
        JoinedTokens([np.arange(3), np.arange(2)])[np.array([position])]


def test_arrays_of_different_widths_keep_their_values() -> None:
    joined = JoinedTokens([np.array([65_535], np.uint16), np.array([128_255], np.uint32)])
    assert joined[np.array([1, 0])].tolist() == [128_255, 65_535]


def test_sources_are_drawn_as_often_as_their_weights_say() -> None:
    weights, draws = [6.0, 1.0, 3.0], 20_000
    mixed = mixture(weights)
    sources = mixed.tokens.owners(np.array(draw(mixed, batch_size=draws)))
    expected = draws * np.array(weights) / sum(weights)
    chi_square = ((np.bincount(sources, minlength=3) - expected) ** 2 / expected).sum()
    assert chi_square < 13.8  # 0.1 % of samples exceed it at 2 degrees of freedom


def test_windows_are_uniform_within_their_source_and_never_reach_over_a_border() -> None:
    mixed, draws, context_length = mixture([1.0, 1.0, 1.0]), 30_000, 4
    offsets = np.array(draw(mixed, batch_size=draws, context_length=context_length))
    inputs_BT, targets_BT = gather(mixed.tokens, offsets, context_length)
    assert (inputs_BT // 1000 == inputs_BT[:, :1] // 1000).all()
    assert (targets_BT == inputs_BT + 1).all()
    counts = np.bincount(inputs_BT[inputs_BT[:, 0] < 1000, 0])
    assert len(counts) == LENGTHS[0] - context_length
    expected = counts.sum() / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < 66.6  # 0.1 % exceed it at 35 degrees of freedom


def test_a_source_of_weight_zero_is_never_drawn_and_may_be_short() -> None:
    mixed = mixture([0.0, 1.0, 0.0], (2, 50, 0))
    drawn = np.array(draw(mixed, batch_size=1_000))
    assert (mixed.tokens.owners(drawn) == 1).all()


def test_golden_offsets() -> None:
    """A change here changes the data of every run on a mixture."""
    mixed = mixture([0.5, 0.3, 0.2])
    assert draw(mixed, step=1) == [19, 7, 18, 106, 20, 56, 49, 41]
    assert draw(mixed, step=1_000_000) == [10, 19, 34, 19, 107, 9, 12, 29]


def test_a_step_depends_on_seed_and_step_alone_and_differs_from_others() -> None:
    mixed = mixture([0.5, 0.3, 0.2])
    expected = draw(mixed, seed=3, step=7)
    for step in (9, 2):
        draw(mixed, seed=3, step=step)
    assert draw(mixture([0.5, 0.3, 0.2]), seed=3, step=7) == expected
    seen = {tuple(draw(mixed, seed=seed, step=step)) for seed in range(5) for step in range(1, 41)}
    assert len(seen) == 200


@pytest.mark.parametrize("weights", [[1.0, 1.0], [1.0, -0.1, 1.0], [0.0, 0.0, 0.0], [1.0, float("nan"), 1.0]])
def test_weights_that_are_no_distribution_are_refused(weights) -> None:
    with pytest.raises(ConfigError, match="mixture"):
        mixture(weights)


def test_a_source_shorter_than_a_window_is_refused() -> None:
    with pytest.raises(DataError, match="source 1 has 4"):
        draw(mixture([1.0, 1.0, 1.0], (40, 4, 40)), context_length=4)
    assert len(draw(mixture([1.0, 1.0, 1.0], (40, 5, 40)), context_length=4)) == 8
