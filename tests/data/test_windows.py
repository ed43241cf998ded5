"""Which tokens a step sees: a function of seed and step, uniform, and the same for every validation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from normlab.core.errors import ConfigError
from normlab.core.seeding import derive_seed
from normlab.data.windows import (
    NUM_PERMUTATION_ROUNDS,
    epoch_offsets,
    gather,
    in_batches,
    part_of_rank,
    permuted,
    training_offsets,
    validation_offsets,
    whole_set_offsets,
    windows_per_epoch,
)


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


def sequence_of_offsets(
    num_tokens: int, num_sequences: int, *, context_length: int, batch_size: int, seed: int = 0
) -> list[int]:
    """The offsets of the first sequences of a run without replacement, batch after batch."""
    num_steps = -(-num_sequences // batch_size)
    drawn = [
        epoch_offsets(num_tokens, batch_size=batch_size, context_length=context_length, seed=seed, step=step)
        for step in range(1, num_steps + 1)
    ]
    return np.concatenate(drawn)[:num_sequences].tolist()


@given(
    context_length=st.integers(1, 20),
    extra_tokens=st.integers(1, 300),
    batch_size=st.integers(1, 40),
    seed=st.integers(0, 2**31),
)
def test_every_window_comes_once_an_epoch(context_length, extra_tokens, batch_size, seed) -> None:
    num_tokens = context_length + extra_tokens
    num_windows = windows_per_epoch(num_tokens, context_length)
    starts = sequence_of_offsets(
        num_tokens, 3 * num_windows, context_length=context_length, batch_size=batch_size, seed=seed
    )
    for epoch in range(3):
        covered = sorted(starts[epoch * num_windows : (epoch + 1) * num_windows])
        phase = covered[0]
        assert covered == [phase + context_length * index for index in range(num_windows)]
        assert 0 <= phase < context_length
        assert covered[-1] + context_length <= num_tokens - 1
        assert num_windows * context_length > num_tokens - 2 * context_length


def test_golden_epoch_offsets() -> None:
    """A change here changes the data of every run without replacement."""
    wanted = {"batch_size": 4, "context_length": 128}
    assert epoch_offsets(100_000, **wanted, seed=0, step=1).tolist() == [47080, 68840, 60008, 22376]
    assert epoch_offsets(100_000, **wanted, seed=1, step=1_000_000).tolist() == [27952, 42288, 50992, 7088]


def test_a_step_without_replacement_depends_on_no_other_step() -> None:
    forward = sequence_of_offsets(1_000, 600, context_length=7, batch_size=6)
    for step in (90, 3, 57):
        alone = epoch_offsets(1_000, batch_size=6, context_length=7, seed=0, step=step).tolist()
        assert alone == forward[(step - 1) * 6 : step * 6]


def test_the_batch_size_cuts_one_and_the_same_sequence() -> None:
    assert sequence_of_offsets(500, 300, context_length=4, batch_size=1) == sequence_of_offsets(
        500, 300, context_length=4, batch_size=200
    )


def test_epochs_and_seeds_have_orders_and_phases_of_their_own() -> None:
    context_length, num_windows, num_epochs = 5, 50, 200
    num_tokens = (num_windows + 1) * context_length
    starts = np.array(
        sequence_of_offsets(num_tokens, num_windows * num_epochs, context_length=context_length, batch_size=num_windows)
    ).reshape(num_epochs, num_windows)
    orders = {tuple(epoch) for epoch in (starts - starts.min(axis=1, keepdims=True)).tolist()}
    assert len(orders) == num_epochs
    phases = np.bincount(starts.min(axis=1), minlength=context_length)
    expected = num_epochs / context_length
    assert ((phases - expected) ** 2 / expected).sum() < 18.5  # 0.1 % exceed it at 4 degrees of freedom
    others = sequence_of_offsets(num_tokens, 50, context_length=5, batch_size=50, seed=1)
    assert others != starts[0].tolist()


def random_keys(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 1 << 64, size=NUM_PERMUTATION_ROUNDS, dtype=np.uint64)


@given(size=st.integers(1, 3_000), number=st.integers(0, 1_000))
def test_a_permutation_takes_every_index_to_one_of_its_own(size, number) -> None:
    assert sorted(permuted(np.arange(size), size, random_keys(number)).tolist()) == list(range(size))


def test_a_permutation_of_billions_needs_no_memory_for_them() -> None:
    size = 40_000_000_003
    indices = np.arange(size - 50_000, size)
    images = permuted(indices, size, random_keys(0))
    assert len(set(images.tolist())) == len(indices)
    assert images.min() >= 0
    assert images.max() < size
    assert abs(images.mean() / size - 0.5) < 0.01
    assert abs(np.corrcoef(images[1:], images[:-1])[0, 1]) < 0.02


def test_pairs_of_images_are_uniform() -> None:
    """All 20 ordered pairs of different images that two of five indices can have are equally frequent."""
    draws = 6_000
    counts = np.zeros((5, 5))
    for number in range(draws):
        counts[tuple(permuted(np.array([1, 2]), 5, random_keys(number)))] += 1
    assert counts.trace() == 0
    expected = draws / 20
    chi_square = ((counts[~np.eye(5, dtype=bool)] - expected) ** 2 / expected).sum()
    assert chi_square < 43.8  # 0.1 % exceed it at 19 degrees of freedom


@given(part_size=st.integers(1, 8), num_ranks=st.integers(1, 8))
def test_the_parts_of_all_ranks_joined_are_the_batch_of_one(part_size, num_ranks) -> None:
    batch = np.array(offsets(0, 1, batch_size=part_size * num_ranks))
    parts = [part_of_rank(batch, rank=rank, num_ranks=num_ranks) for rank in range(num_ranks)]
    assert [len(part) for part in parts] == [part_size] * num_ranks
    assert np.concatenate(parts).tolist() == batch.tolist()


def test_a_batch_that_ranks_cannot_share_equally_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"got 10 and 4\. Try trainer\.batch_size=12"):
        part_of_rank(np.arange(10), rank=0, num_ranks=4)


@given(num_tokens=st.integers(0, 500), context_length=st.integers(1, 30))
def test_the_whole_set_is_covered_in_order_up_to_a_part_of_a_window(num_tokens, context_length) -> None:
    starts = whole_set_offsets(num_tokens, context_length=context_length)
    _, targets_BT = gather(np.arange(num_tokens), starts, context_length)
    num_targets = max(0, num_tokens - 1)
    assert targets_BT.ravel().tolist() == list(range(1, num_targets - num_targets % context_length + 1))


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
