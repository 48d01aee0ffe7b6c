import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ehr_bert.examples.training_masking import TrainingMasker, TrainingMasking
from tests.examples.patients import CLS, FIRST_CODE, MASK, SPECIAL, UNK, vocabulary
from tests.user_errors import raises_user_error

T, S = 29, 6


def rows_of(windows, width):
    tokens, patients = np.zeros((2, len(windows), width), np.int32)
    for row, window in enumerate(windows):
        flat = [(token, number) for number, patient in enumerate(window, 1) for token in patient]
        for column, (token, number) in enumerate(flat):
            tokens[row, column], patients[row, column] = token, number
    return tokens, patients


def masked(windows, masking=None, places=7, seed=(1, 2), width=T, patients=S):
    masker = TrainingMasker(masking or TrainingMasking(), vocabulary(), places, patients)
    tokens, patient_ids = rows_of(windows, width)
    result = masker(tf.constant(tokens), tf.constant(patient_ids), tf.constant(seed, tf.int64))
    return (
        tokens,
        patient_ids,
        *(tensor.numpy() for tensor in (result.token_ids, result.places, result.ids, result.weights)),
    )


patient = st.lists(st.sampled_from([UNK, *range(FIRST_CODE, 20)]), min_size=1, max_size=4).map(
    lambda tokens: [CLS, *tokens]
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.lists(patient, min_size=1, max_size=S - 1), min_size=5, max_size=5),
    st.sampled_from([0.01, 0.15, 0.5, 1.0]),
    st.integers(0, 99),
)
def test_the_budget_the_floor_of_a_patient_and_the_special_tokens(windows, probability, seed):
    masking = TrainingMasking(probability)
    places = masking.places(T, S)
    tokens, patient_ids, seen, at, ids, weights = masked(windows, masking, places, (seed, 0))
    for row in range(len(windows)):
        is_code = tokens[row] >= FIRST_CODE
        with_codes = set(patient_ids[row, is_code].tolist())
        count = int(weights[row].sum())
        assert count == min(
            places, max(round(float(np.float32(probability) * is_code.sum())), len(with_codes))
        )
        chosen = at[row, :count]
        assert len(set(chosen.tolist())) == count
        assert is_code[chosen].all()
        assert set(patient_ids[row, chosen].tolist()) == with_codes
        np.testing.assert_array_equal(ids[row, :count], tokens[row, chosen])
        for unused in (at, ids, weights):
            assert not unused[row, count:].any()
        others = np.setdiff1d(np.arange(T), chosen)
        np.testing.assert_array_equal(seen[row, others], tokens[row, others])


def test_the_same_seed_masks_alike_and_another_one_otherwise():
    windows = [[[CLS, *range(5, 25)]]] * 3
    one, same, other = (masked(windows, seed=seed)[2] for seed in ((1, 2), (1, 2), (1, 3)))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])


def test_masked_codes_are_hidden_replaced_and_kept_as_asked():
    windows = [[[CLS, *range(5, 105)]]] * 200
    _, _, seen, at, ids, _ = masked(windows, TrainingMasking(0.3), 39, width=128, patients=1)
    shown = np.take_along_axis(seen, at[:, :30], axis=1)
    hidden = (shown == MASK).mean()
    kept = (shown == ids[:, :30]).mean()
    assert abs(hidden - 0.8) < 0.02
    assert abs(kept - 0.1) < 0.02
    replaced = shown[(shown != MASK) & (shown != ids[:, :30])]
    assert replaced.min() >= len(SPECIAL)
    assert replaced.max() > 290  # any code, not only those of the window
    counts = np.bincount(at[:, :30].ravel(), minlength=128)[1:101]
    assert counts.min() > 30  # of 60 each


@pytest.mark.parametrize(("mask_share", "random_share", "expected"), [(1.0, 0.0, "mask"), (0.0, 0.0, "same")])
def test_shares_of_one_kind(mask_share, random_share, expected):
    tokens, _, seen, at, _, weights = masked([[[CLS, 5, 6, 7]]], TrainingMasking(1, mask_share, random_share))
    chosen = at[weights > 0]
    assert sorted(chosen.tolist()) == [1, 2, 3]
    np.testing.assert_array_equal(seen[0, 1:4], [MASK] * 3 if expected == "mask" else tokens[0, 1:4])


def test_an_empty_window_masks_nothing():
    _, _, seen, _, _, weights = masked([[], [[CLS, 5]]])
    assert not seen[0].any()
    assert not weights[0].any()
    assert weights[1].sum() == 1


@pytest.mark.parametrize(
    "values", [{"probability": 0}, {"probability": 1.1}, {"mask_share": -0.1}, {"random_share": 0.3}]
)
def test_shares_out_of_range_are_refused(values):
    with raises_user_error("share-out-of-range"):
        TrainingMasking(**values)
