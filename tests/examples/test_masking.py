import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.examples.masking import Masking
from ehr_bert.examples.windows import Windows
from tests.examples.patients import CLS, FIRST_CODE, MASK, vocabulary
from tests.user_errors import raises_user_error

CODES = 301


def masking(probability=0.15, max_masked=20, replacements=None):
    words = vocabulary(CODES)
    return Masking.of(
        words, MASK, words.code_ids if replacements is None else replacements, probability, max_masked
    )


def windows_of(rows):
    lengths = np.array([len(row) for row in rows], np.int64)
    tokens = np.array([token for row in rows for token in row], np.int32)
    return Windows(tokens, np.ones_like(tokens), lengths, np.zeros(len(rows), bool), np.arange(len(rows)))


def split(values, lengths):
    return np.split(values, np.cumsum(lengths)[:-1])


rows = st.lists(
    st.lists(st.integers(0, FIRST_CODE + CODES - 1), min_size=1, max_size=17), min_size=1, max_size=13
)


@given(rows, st.floats(0.01, 1), st.integers(1, 7), st.integers(0, 2**32))
def test_only_codes_are_masked_and_as_many_as_requested(rows, probability, max_masked, seed):
    masked = masking(probability, max_masked).mask(windows_of(rows), np.random.default_rng(seed))
    lengths = [len(row) for row in rows]
    chosen = np.zeros(sum(lengths), bool)
    chosen[masked.positions] = True
    assert np.all(np.diff(masked.positions) > 0)
    for row, inputs, positions, count in zip(
        rows, split(masked.inputs, lengths), split(chosen, lengths), masked.counts, strict=True
    ):
        tokens = np.array(row)
        codes = int((tokens >= FIRST_CODE).sum())
        assert positions.sum() == count == min(max_masked, max(1, round(codes * probability)), codes)
        assert np.all(tokens[positions] >= FIRST_CODE)
        assert np.array_equal(inputs[~positions], tokens[~positions])
        assert np.all((inputs[positions] == MASK) | (inputs[positions] >= FIRST_CODE))


@given(rows, st.integers(0, 13))
def test_masking_does_not_depend_on_the_batches(rows, border):
    together = masking().mask(windows_of(rows), np.random.default_rng(7))
    generator = np.random.default_rng(7)
    parts = [masking().mask(windows_of(part), generator) for part in (rows[:border], rows[border:]) if part]
    assert np.array_equal(together.inputs, np.concatenate([part.inputs for part in parts]))
    assert np.array_equal(together.counts, np.concatenate([part.counts for part in parts]))


def test_8_in_10_masked_codes_become_mask_1_is_kept_and_1_is_random():
    many = windows_of([[CLS] + [FIRST_CODE] * 40] * 5000)
    masked = masking(0.5, 20).mask(many, np.random.default_rng(1))
    inputs = masked.inputs[masked.positions]
    assert len(inputs) == 100_000
    assert np.mean(inputs == MASK) == pytest.approx(0.8, abs=0.01)
    assert np.mean(inputs == FIRST_CODE) == pytest.approx(0.1 + 0.1 / CODES, abs=0.01)
    random_ids, counts = np.unique(inputs[(inputs != MASK) & (inputs != FIRST_CODE)], return_counts=True)
    assert random_ids.tolist() == list(range(FIRST_CODE + 1, FIRST_CODE + CODES))
    assert counts.min() > 0.3 * counts.mean()
    assert counts.max() < 3 * counts.mean()


def test_each_position_is_masked_equally_often():
    many = windows_of([[CLS, *range(FIRST_CODE, FIRST_CODE + 13)]] * 20_000)
    masked = masking(0.3).mask(many, np.random.default_rng(2))
    shares = np.bincount(masked.positions % 14, minlength=14) / 20_000
    assert shares[0] == 0
    assert shares[1:] == pytest.approx(4 / 13, abs=0.02)  # round(13 * 0.3) = 4


def test_half_a_code_rounds_to_even():
    counts = (
        masking(0.5)
        .mask(windows_of([[FIRST_CODE] * length for length in (1, 3, 5, 7)]), np.random.default_rng(0))
        .counts
    )
    assert counts.tolist() == [1, 2, 2, 4]


def test_a_vocabulary_without_codes_is_refused():
    words = vocabulary(0)
    with raises_user_error("vocabulary-without-codes"):
        Masking.of(words, MASK, words.code_ids, 0.15, 3)
