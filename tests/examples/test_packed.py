import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from ehr_bert.examples.packed import PackedFeatures, PackedSettings
from ehr_bert.examples.protobuf import serialize
from ehr_bert.examples.windows import LongPatients
from tests.examples.patients import CLS, batch_of, random_patients, vocabulary
from tests.user_errors import raises_user_error


def parsed(columns):
    return [
        {
            name: list(feature.int64_list.value)
            for name, feature in tf.train.Example.FromString(record).features.feature.items()
        }
        for record in serialize(columns)
    ]


def packed(patients, settings, seed=0):
    features = PackedFeatures(settings, vocabulary())
    columns, accounts = features.by_length(batch_of(patients), np.random.default_rng(seed))
    return {length: parsed(column) for length, column in columns.items()}, accounts


def one_by_one(windows):
    """The patients of all windows: tokens, visits and longest stay."""
    patients = []
    for window in (window for of_length in windows.values() for window in of_length):
        at = 0
        for length, stay in zip(window["patient_lengths"], window["longest_stays"], strict=True):
            tokens, visits = (window[name][at : at + length] for name in ("token_ids", "visit_ids"))
            patients.append((tokens, visits, stay))
            at += length
        assert at == len(window["token_ids"]) == len(window["visit_ids"])
    return patients


def test_every_patient_is_there_once_led_by_cls():
    patients = random_patients(101)
    windows, accounts = packed(patients, PackedSettings(seed=1, window_lengths=(13, 29, 61)))
    expected = [
        (
            [CLS, *(token for _, tokens in history for token in tokens)],
            [0, *(visit for visit, (_, tokens) in enumerate(history, 1) for _ in tokens)],
            max(stay for stay, _ in history),
        )
        for history in patients
    ]
    assert sorted(one_by_one(windows)) == sorted(expected)
    assert accounts.patients == accounts.written == 101
    assert accounts.examples == sum(map(len, windows.values())) < 101
    assert list(windows) == [13, 29, 61]
    for length, of_length in windows.items():
        assert max(len(window["token_ids"]) for window in of_length) <= length


def test_negative_stays_are_kept():
    windows, _ = packed([[(-1, [5])]], PackedSettings(seed=1, window_lengths=(4,)))
    assert one_by_one(windows) == [([CLS, 5], [0, 1], -1)]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("split", [([CLS, 5, 6], [0, 1, 1], 9), ([CLS, 7, 8, 9], [0, 1, 1, 1], 1)]),
        ("latest", [([CLS, 7, 8, 9], [0, 1, 1, 1], 1)]),
        ("drop", []),
    ],
)
def test_patients_longer_than_the_longest_window(choice, expected):
    settings = PackedSettings(seed=1, window_lengths=(4,), long_patients=LongPatients(choice))
    windows, _ = packed([[(9, [5, 6]), (1, [7, 8, 9])]], settings)
    assert sorted(one_by_one(windows)) == expected


def test_facts_tell_of_some_of_the_windows():
    features = PackedFeatures(PackedSettings(seed=1, window_lengths=(16, 64)), vocabulary())
    columns, _ = features.by_length(batch_of(random_patients(60)), np.random.default_rng(0))
    windows = parsed(columns[64])[1::3]
    facts = features.facts(64, columns[64], slice(1, None, 3))
    lengths = [window["patient_lengths"] for window in windows]
    assert (facts.records, facts.window_length, facts.bytes) == (len(windows), 64, 0)
    assert facts.patients == sum(map(len, lengths))
    assert facts.most_patients == max(map(len, lengths))
    assert facts.longest == max(map(max, lengths))
    assert facts.real_tokens == sum(map(sum, lengths)) == facts.codes + facts.patients


def test_ids_outside_the_vocabulary_are_refused():
    with raises_user_error("ids-out-of-range", 999):
        packed([[(1, [5, 999])]], PackedSettings(seed=1))


def test_no_patients_make_no_window():
    batch = pa.record_batch(
        {name: pa.array([], pa.list_(pa.int32())) for name in ("token_ids", "visit_ids", "los_days")}
    )
    columns, accounts = PackedFeatures(PackedSettings(seed=1), vocabulary()).by_length(
        batch, np.random.default_rng(0)
    )
    assert (columns, accounts.examples) == ({}, 0)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": -1}, "negative-seed"),
        ({"window_lengths": ()}, "invalid-window-lengths"),
        ({"window_lengths": (8, 8)}, "invalid-window-lengths"),
    ],
)
def test_settings_out_of_range_are_refused(changes, key):
    with raises_user_error(key):
        PackedSettings(**{"seed": 1} | changes)
