import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.prediction.batches import collate, rows_by_length, shuffled_rows
from ehr_bert.prediction.reading import ModelVocabulary, encode
from tests.prediction.small import histories_of, random_patients

LENGTHS = st.lists(st.integers(0, 40), max_size=60).map(lambda lengths: np.array(lengths, np.int64))


@pytest.fixture(scope="module")
def encoded(export):
    return encode(histories_of(random_patients(23)), ModelVocabulary.of_folder(export))


@given(LENGTHS, st.integers(1, 90))
def test_every_history_is_in_one_batch_within_the_budget(lengths, batch_tokens):
    batches = rows_by_length(lengths, batch_tokens)
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= max(batch_tokens, len(rows))


@given(LENGTHS.filter(len), st.integers(1, 9), st.integers(0, 5))
def test_every_history_is_in_one_shuffled_batch(lengths, batch_examples, seed):
    batches = shuffled_rows(lengths, batch_examples, np.random.default_rng(seed))
    assert sorted(row for rows in batches for row in rows) == list(range(len(lengths)))
    assert all(1 <= len(rows) <= batch_examples for rows in batches)
    again = shuffled_rows(lengths, batch_examples, np.random.default_rng(seed))
    assert all(np.array_equal(one, other) for one, other in zip(batches, again, strict=True))


def test_shuffled_batches_hold_little_padding():
    lengths = np.random.default_rng(0).integers(1, 200, 1000)
    batches = shuffled_rows(lengths, 32, np.random.default_rng(1))
    computed = sum(len(rows) * lengths[rows].max() for rows in batches)
    assert computed < 1.1 * lengths.sum()


def test_a_batch_holds_its_histories_and_padding_after_them(encoded):
    rows = np.array([4, 11, 0])
    batch = collate(encoded, rows)
    assert batch.rows.tolist() == rows.tolist()
    for place, row in enumerate(rows):
        start, end = encoded.offsets[row], encoded.offsets[row + 1]
        length = end - start
        assert batch.token_ids[place, :length].tolist() == encoded.token_ids[start:end].tolist()
        assert batch.visit_ids[place, :length].tolist() == encoded.visit_ids[start:end].tolist()
        assert batch.visits[place] == encoded.visit_ids[start:end].max()
        assert batch.attention_mask[place].tolist() == [True] * length + [False] * (
            batch.token_ids.shape[1] - length
        )
        assert not batch.token_ids[place, length:].any()
        assert not batch.visit_ids[place, length:].any()


def test_empty_histories_are_padding_alone(without_cls):
    batch = collate(encode(histories_of([[], []]), ModelVocabulary.of_folder(without_cls)), np.arange(2))
    assert batch.token_ids.tolist() == [[0], [0]]
    assert batch.visits.tolist() == [0, 0]


def test_batches_know_whose_histories_they_hold(encoded):
    batches = [collate(encoded, rows) for rows in rows_by_length(encoded.lengths, 30)]
    assert len(batches) > 1
    assert sorted(int(row) for batch in batches for row in batch.rows) == list(range(23))
