from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.prediction.multitask.sampling import TaskSampler, endless_batches

SIZES = st.lists(st.integers(1, 10**6), min_size=1, max_size=5).map(tuple)


@given(SIZES, st.floats(0, 1), st.integers(0, 2**32), st.integers(0, 300), st.integers(0, 50))
def test_draws_can_begin_anywhere(sizes, power, seed, first, updates):
    sampler = TaskSampler(sizes, power, seed)
    whole = sampler.draw(0, first + updates)
    np.testing.assert_array_equal(sampler.draw(first, updates), whole[first:])
    assert ((whole >= 0) & (whole < len(sizes))).all()


@pytest.mark.parametrize(("power", "shares"), [(0, (0.5, 0.5)), (0.5, (0.25, 0.75)), (1, (0.1, 0.9))])
def test_tasks_are_drawn_in_proportion_to_a_power_of_their_size(power, shares):
    sampler = TaskSampler((100, 900), power, seed=1)
    np.testing.assert_allclose(sampler.shares, shares)
    shares_drawn = np.bincount(sampler.draw(0, 40_000)) / 40_000
    np.testing.assert_allclose(shares_drawn, shares, atol=0.01)


def test_another_seed_draws_others():
    one, other = (TaskSampler((3, 4), 0.5, seed).draw(0, 64) for seed in (1, 2))
    assert (one != other).any()


def test_an_epoch_has_every_example_once_and_the_next_another_order():
    lengths = np.random.default_rng(2).integers(1, 30, 17)
    one, again = (list(islice(endless_batches(lengths, 5, (3, 0)), 8)) for _ in range(2))
    seen = [np.concatenate(one[:4]), np.concatenate(one[4:])]
    for epoch in seen:
        assert sorted(epoch) == list(range(17))
    assert (seen[0] != seen[1]).any()
    np.testing.assert_array_equal(np.concatenate(again), np.concatenate(seen))
