"""Batches made ahead are the same, in order; errors pass on; no thread stays behind."""

import threading

import pytest

from normlab.core.errors import ConfigError
from normlab.data.prefetch import Prefetcher

PATIENCE_SECONDS = 15


@pytest.fixture(autouse=True)
def no_thread_stays_behind():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("depth", [1, 2, 7])
@pytest.mark.parametrize("first_step", [0, 41])
def test_every_step_gets_its_own_batch_in_order(depth, first_step) -> None:
    steps = range(first_step, first_step + 50)
    with Prefetcher(lambda step: {"step": step}, first_step=first_step, depth=depth) as prefetcher:
        assert [prefetcher(step)["step"] for step in steps] == list(steps)


def test_batches_are_made_in_one_other_thread() -> None:
    with Prefetcher(lambda step: threading.get_ident(), first_step=1, depth=3) as prefetcher:
        makers = {prefetcher(step) for step in range(1, 20)}
    assert len(makers) == 1
    assert threading.get_ident() not in makers


def test_depth_steps_are_made_ahead_and_not_one_more() -> None:
    made = [threading.Event() for _ in range(10)]

    def make_batch(step: int) -> int:
        made[step].set()
        return step

    with Prefetcher(make_batch, first_step=0, depth=3) as prefetcher:
        assert all(event.wait(PATIENCE_SECONDS) for event in made[:3])
        prefetcher(0)
        assert made[3].wait(PATIENCE_SECONDS)
        prefetcher._executor.submit(int).result()  # now its thread has done all that it was asked for
    assert [event.is_set() for event in made] == [True] * 4 + [False] * 6


def test_an_error_is_raised_by_the_call_for_its_step_and_by_every_later_one() -> None:
    def make_batch(step: int) -> int:
        if step == 3:
            raise OSError("the disk is gone")
        return step

    with Prefetcher(make_batch, first_step=1, depth=4) as prefetcher:
        assert [prefetcher(1), prefetcher(2)] == [1, 2]
        for _ in range(2):
            with pytest.raises(OSError, match="the disk is gone"):
                prefetcher(3)


def test_closing_drops_what_nobody_took() -> None:
    may_go, made = threading.Event(), []

    def make_batch(step: int) -> int:
        made.append(step)
        assert may_go.wait(PATIENCE_SECONDS)
        return step

    prefetcher = Prefetcher(make_batch, first_step=1, depth=5)
    threading.Timer(0.05, may_go.set).start()
    prefetcher.close()
    prefetcher.close()
    assert made == [1]
    with pytest.raises(ValueError, match="closed"):
        prefetcher(1)


def test_an_error_in_the_training_thread_ends_the_other_one() -> None:
    with pytest.raises(KeyboardInterrupt), Prefetcher(lambda step: step, first_step=1, depth=2) as prefetcher:
        prefetcher(1)
        raise KeyboardInterrupt


@pytest.mark.parametrize("step", [1, 3])
def test_a_step_out_of_order_is_refused(step) -> None:
    with Prefetcher(lambda step: step, first_step=1, depth=2) as prefetcher:
        prefetcher(1)
        with pytest.raises(ValueError, match="the next step is 2"):
            prefetcher(step)


def test_a_depth_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1; got 0"):
        Prefetcher(lambda step: step, first_step=1, depth=0)
