"""Which tokens a step sees: a function of seed and step, uniform, and the same for every validation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.core.seeding import derive_seed
from normlab.data.windows import gather, in_batches, training_offsets, validation_offsets


def offsets(seed: int, step: int, num_tokens: int = 100_000, batch_size: int = 4, context_length: int = 128) -> list:
    return training_offsets(
        num_tokens, batch_size=batch_size, context_length=context_length, seed=seed, step=step
    ).tolist()


@pytest.mark.parametrize(
    ("seed", "step", "golden"),
    [
        (0, 1, [557, 10532, 33859, 51398]),
        (0, 2, [79521, 71944, 84320, 24148]),
        (0, 1_000_000, [96172, 57014, 21420, 29715]),
        (1, 1, [5816, 89455, 45915, 17152]),
    ],
)
def test_golden_offsets(seed: int, step: int, golden: list[int]) -> None:
    """A change here changes the data of every run."""
    assert offsets(seed, step) == golden


def test_offsets_depend_on_seed_and_step_and_nothing_that_happened_before() -> None:
    expected = offsets(3, 7)
    np.random.default_rng(0).random(10)
    for step in range(5):
        offsets(3, step)
    assert offsets(3, 7) == expected


def test_steps_and_seeds_see_different_windows() -> None:
    seen = {tuple(offsets(seed, step)) for seed in range(20) for step in range(100)}
    assert len(seen) == 20 * 100


def test_offsets_are_uniform_and_reach_both_ends_but_never_beyond() -> None:
    num_tokens, context_length, draws = 20, 8, 12_000
    counts = np.bincount(offsets(0, 1, num_tokens, draws, context_length))
    assert len(counts) == num_tokens - context_length
    expected = draws / len(counts)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 31.3  # 0.1 % of uniform samples exceed it at 11 degrees of freedom


@given(num_tokens=st.integers(2, 50), context_length=st.integers(1, 49), step=st.integers(0, 10**9))
def test_every_window_and_the_token_after_it_lie_within_the_tokens(num_tokens, context_length, step) -> None:
    context_length = min(context_length, num_tokens - 1)
    drawn = np.array(offsets(0, step, num_tokens, 50, context_length))
    inputs, targets = gather(np.arange(num_tokens), drawn, context_length)
    assert inputs.min() >= 0
    assert targets.max() <= num_tokens - 1


def test_the_streams_of_neighbouring_steps_do_not_overlap() -> None:
    """Every step owns 2^128 blocks of the counter: no draw of one step appears among those of the next."""

    def raw(step: int) -> set[int]:
        generator = np.random.Philox(key=derive_seed(0, "batches"), counter=step << 128)
        return set(generator.random_raw(20_000).tolist())

    streams = [raw(step) for step in range(1, 6)]
    assert len(set.union(*streams)) == sum(map(len, streams)) == 5 * 20_000
    near = [offsets(0, step, 2**60, batch_size=2_000) for step in range(1, 6)]
    assert len({offset for step in near for offset in step}) == 5 * 2_000


@given(num_tokens=st.integers(0, 3_000), num_windows=st.integers(1, 40), context_length=st.integers(1, 100))
def test_validation_windows_never_overlap_and_lie_within_the_set(num_tokens, num_windows, context_length) -> None:
    starts = validation_offsets(num_tokens, num_windows=num_windows, context_length=context_length)
    assert len(starts) == min(num_windows, max(0, (num_tokens - 1) // context_length))
    assert (np.diff(starts) >= context_length).all()
    assert all(0 <= start <= num_tokens - context_length - 1 for start in starts)


@pytest.mark.parametrize("num_tokens", [33, 34, 40])
def test_a_small_set_is_covered_as_far_as_whole_windows_go(num_tokens: int) -> None:
    starts = validation_offsets(num_tokens, num_windows=100, context_length=8)
    assert starts.tolist() == [0, 8, 16, 24]


def test_a_large_set_is_sampled_from_beginning_to_end() -> None:
    assert validation_offsets(8 * 100 + 1, num_windows=4, context_length=8).tolist() == [0, 200, 400, 600]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_targets_are_the_tokens_that_follow_the_inputs(dtype: type) -> None:
    tokens = np.array([5, 3, 8, 1, 9, 2, 65_535], dtype=dtype)
    inputs, targets = gather(tokens, np.array([3, 0]), 3)
    assert inputs.tolist() == [[1, 9, 2], [5, 3, 8]]
    assert targets.tolist() == [[9, 2, 65_535], [3, 8, 1]]
    assert (inputs.dtype, targets.dtype) == (np.int64, np.int64)


@given(st.lists(st.integers()), st.integers(1, 7))
def test_batches_are_the_offsets_in_order_and_only_the_last_is_short(items: list[int], batch_size: int) -> None:
    parts = [part.tolist() for part in in_batches(np.array(items, dtype=object), batch_size)]
    assert [item for part in parts for item in part] == items
    assert all(len(part) == batch_size for part in parts[:-1])
    assert all(1 <= len(part) <= batch_size for part in parts)
