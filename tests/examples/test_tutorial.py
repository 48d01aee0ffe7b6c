import numpy as np
import pytest

from ehr_bert.examples.tutorial import TutorialFeatures, TutorialSettings
from ehr_bert.examples.windows import LongPatients
from tests.examples.patients import CLS, FIRST_CODE, MASK, PAD, batch_of, random_patients, vocabulary
from tests.user_errors import raises_user_error

CODES = 301


def columns_of(patients, words=None, **settings):
    features = TutorialFeatures(
        TutorialSettings(
            **{"max_seq_length": 64, "max_predictions_per_seq": 9, "masked_lm_prob": 0.15, "seed": 1}
            | settings
        ),
        words or vocabulary(CODES),
    )
    return features, *features.columns(batch_of(patients), np.random.default_rng(1))


def rows(column):
    return np.split(column.values, np.cumsum(column.lengths)[:-1])


def test_labels_put_back_give_the_sequence_led_by_cls():
    patients = random_patients(31)
    _, columns, _ = columns_of(patients)
    for history, ids, positions, labels, segments in zip(
        patients,
        rows(columns["input_ids"]),
        rows(columns["masked_lm_positions"]),
        rows(columns["masked_lm_ids"]),
        rows(columns["segment_ids"]),
        strict=True,
    ):
        ids[positions] = labels
        assert ids.tolist() == [CLS] + [token for _, tokens in history for token in tokens]
        assert segments.tolist() == [0] + [n for n, (_, tokens) in enumerate(history, 1) for _ in tokens]


def test_cls_takes_one_of_the_tokens_of_a_window():
    history = [[(1, [FIRST_CODE] * 7)]]
    assert columns_of(history, max_seq_length=8)[2].split == 0
    assert columns_of(history, max_seq_length=7)[2].split == 1


def test_med_bert_masks_with_0_and_draws_any_id_up_to_the_last_code():
    patients = [[(1, [FIRST_CODE] * 60)]] * 800
    features, columns, _ = columns_of(patients, med_bert=True, max_predictions_per_seq=60, masked_lm_prob=1.0)
    assert (features.mask_id, features.cls_id) == (PAD, None)
    ids = columns["input_ids"].values
    assert np.mean(ids == PAD) == pytest.approx(0.8, abs=0.01)
    assert set(np.unique(ids)) == set(range(FIRST_CODE + CODES))
    assert columns["input_ids"].lengths.tolist() == [60] * 800


def test_a_types_file_has_no_more_random_ids_than_it_names():
    words = type(vocabulary()).from_types({"empty_pad": 0, "a": 1, "b": 2, "c": 3})
    _, columns, _ = columns_of(
        [[(1, [1, 2, 3] * 9)]] * 99,
        words,
        med_bert=True,
        max_predictions_per_seq=27,
        masked_lm_prob=1.0,
    )
    assert set(np.unique(columns["input_ids"].values)) == {0, 1, 2, 3}


def test_med_bert_leaves_out_long_patients_and_short_first_stays():
    features, _, accounts = columns_of(
        [[(1, [FIRST_CODE] * 9)], [(1, [FIRST_CODE] * 8)], [(0, [FIRST_CODE])]],
        med_bert=True,
        max_seq_length=8,
    )
    assert (accounts.written, accounts.too_long, accounts.short_first_stay) == (1, 1, 1)
    assert features.settings.long_patients == LongPatients.DROP


def test_masked_codes_become_the_mask_of_the_vocabulary():
    _, columns, _ = columns_of([[(1, [FIRST_CODE] * 30)]], max_predictions_per_seq=30, masked_lm_prob=1.0)
    assert MASK in columns["input_ids"].values


@pytest.mark.parametrize("token", [FIRST_CODE + CODES, -1])
def test_ids_that_are_not_in_the_vocabulary_are_refused(token):
    with raises_user_error("ids-out-of-range", token, 305):
        columns_of([[(1, [FIRST_CODE, token])]])


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_seq_length", 1), ("max_predictions_per_seq", 0), ("masked_lm_prob", 1.5), ("seed", -1)],
)
def test_settings_out_of_range_are_refused(name, value):
    with raises_user_error("invalid-setting", name, value):
        columns_of([], **{name: value})
