import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.prediction.contenders.subsets import subset, training_order


@st.composite
def labelled_patients(draw):
    """Patient number of each example, without gaps, and its label."""
    patients = draw(st.integers(1, 17))
    repeated = draw(st.lists(st.integers(0, patients - 1), max_size=23))
    owners = np.array(draw(st.permutations([*range(patients), *repeated])))
    labels = draw(st.lists(st.integers(0, 1), min_size=len(owners), max_size=len(owners)))
    return owners, np.array(labels)


@given(labelled_patients(), st.integers(0, 5))
def test_the_order_has_each_patient_once(drawn, seed):
    patients, labels = drawn
    order = training_order(patients, labels, seed)
    assert sorted(order) == sorted(set(patients))
    assert (training_order(patients, labels, seed) == order).all()


@given(labelled_patients(), st.integers(0, 5))
def test_larger_subsets_contain_the_smaller_ones_and_all_examples_of_a_patient(drawn, seed):
    patients, labels = drawn
    order = training_order(patients, labels, seed)
    before = set()
    for size in range(1, len(order) + 1):
        rows = subset(patients, order, size)
        assert len(set(patients[rows])) == size
        assert not set(patients[rows]) & set(np.delete(patients, rows))
        assert before <= set(rows)
        before = set(rows)
    assert before == set(subset(patients, order, None)) == set(range(len(patients)))


@given(labelled_patients(), st.integers(0, 5))
def test_cases_are_spread_evenly(drawn, seed):
    patients, labels = drawn
    cases = np.array([labels[patients == patient].any() for patient in range(patients.max() + 1)])
    in_order = cases[training_order(patients, labels, seed)]
    sizes = np.arange(1, len(in_order) + 1)
    assert (np.abs(np.cumsum(in_order) - sizes * cases.mean()) <= 1).all()
    if cases.any() and not cases.all():
        assert in_order[:2].sum() == 1


def test_another_seed_gives_another_order():
    patients, labels = np.arange(40), np.arange(40) % 4 == 0
    orders = [tuple(training_order(patients, labels, seed)) for seed in (1, 2, 3)]
    assert len(set(orders)) == 3
