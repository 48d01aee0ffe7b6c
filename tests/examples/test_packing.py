import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.examples.packing import WINDOW_LENGTHS, pack, window_lengths


def lognormal_lengths(patients, median=40, sigma=1.0, seed=0):
    codes = np.random.default_rng(seed).lognormal(np.log(median), sigma, patients)
    return 1 + np.clip(np.rint(codes).astype(np.int64), 1, 511)


def packed(lengths, capacities=WINDOW_LENGTHS, seed=0):
    return pack(np.asarray(lengths, np.int64), capacities, np.random.default_rng(seed))


@given(
    st.lists(st.integers(1, 23), max_size=60),
    st.sampled_from([(23,), (7, 23), (3, 8, 13, 23)]),
    st.integers(0, 3),
)
def test_each_patient_is_in_one_window_and_fits(lengths, capacities, seed):
    packing = packed(lengths, capacities, seed)
    assert sorted(packing.order.tolist()) == list(range(len(lengths)))
    assert packing.patients.sum() == len(lengths)
    assert packing.lengths.tolist() == sorted(packing.lengths.tolist())
    assert set(packing.lengths.tolist()) <= set(capacities)
    stops = np.cumsum(packing.patients)
    for start, stop, length in zip(stops - packing.patients, stops, packing.lengths, strict=True):
        patient_lengths = [lengths[patient] for patient in packing.order[start:stop]]
        assert patient_lengths
        assert sum(patient_lengths) <= length
        assert min(capacity for capacity in capacities if capacity >= max(patient_lengths)) == length


@pytest.mark.parametrize(("median", "sigma"), [(40, 0.8), (40, 1.2), (20, 1.0), (100, 1.0), (5, 0.8)])
def test_almost_no_position_is_padding(median, sigma):
    lengths = lognormal_lengths(50_000, median, sigma)
    assert lengths.sum() >= 0.97 * packed(lengths).lengths.sum()


def test_the_number_of_patients_per_window_is_limited():
    packing = packed(np.r_[lognormal_lengths(5000), np.full(5000, 2)], (64, 512))
    mean = (lognormal_lengths(5000).sum() + 10_000) / 10_000
    for length in (64, 512):
        assert packing.patients[packing.lengths == length].max() <= max(
            length // 6, np.ceil(2 * length / mean)
        )


def test_the_generator_determines_the_order_and_the_neighbours():
    lengths = lognormal_lengths(1000)
    one, same, other = packed(lengths, seed=1), packed(lengths, seed=1), packed(lengths, seed=2)
    assert one.order.tolist() == same.order.tolist()
    assert one.order.tolist() != other.order.tolist()
    assert one.lengths.tolist() == other.lengths.tolist()
    of_one = [sorted(lengths[part]) for part in np.split(one.order, np.cumsum(one.patients)[:-1])]
    of_other = [sorted(lengths[part]) for part in np.split(other.order, np.cumsum(other.patients)[:-1])]
    assert of_one != of_other
    assert sorted(map(str, of_one)) == sorted(map(str, of_other))


def test_patients_of_one_length_are_shuffled():
    packing = packed(np.full(600, 64))
    assert packing.order.tolist() != list(range(600))


def test_the_default_lengths_end_with_the_requested_one():
    assert window_lengths(512) == (64, 128, 256, 512)
    assert window_lengths(300) == (64, 128, 256, 300)
    assert window_lengths(23) == (23,)
