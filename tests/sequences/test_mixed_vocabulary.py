import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.schemas import SpecialToken
from ehr_bert.sequences.mixed_vocabulary import VocabularyCoverage, mixed_vocabulary, vocabulary_coverage
from ehr_bert.vocabulary import CodeCount, Vocabulary
from tests.user_errors import raises_user_error

SPECIAL = len(SpecialToken)


def corpus_of(**patients: int) -> Vocabulary:
    """A corpus, given by the number of patients of each code. Each has the code in two visits."""
    return Vocabulary.from_counts(CodeCount(code, count, 2 * count) for code, count in patients.items())


LARGE = corpus_of(a=1000, b=500, c=60, d=50)
SMALL = corpus_of(a=5, x=20, y=9, z=1)


def codes(vocabulary: Vocabulary) -> list[str]:
    return list(vocabulary.tokens[SPECIAL:])


def test_codes_are_ordered_by_the_patient_count_of_all_corpora():
    mixed = mixed_vocabulary([LARGE, SMALL], [1, 1])
    assert codes(mixed) == ["a", "b", "c", "d", "x", "y", "z"]
    assert mixed.patients[SPECIAL:] == (1005, 500, 60, 50, 20, 9, 1)
    assert mixed.occurrences[SPECIAL] == 2010


def test_amplification_keeps_codes_of_a_small_corpus():
    plain = mixed_vocabulary([LARGE, SMALL], [1, 1], size=SPECIAL + 4)
    amplified = mixed_vocabulary([LARGE, SMALL], [1, 10], size=SPECIAL + 4)
    assert codes(plain) == ["a", "b", "c", "d"]
    assert codes(amplified) == ["a", "b", "x", "y"]
    assert amplified.patients[SPECIAL:] == (1005, 500, 20, 9)  # as they are
    assert vocabulary_coverage(SMALL, plain) == VocabularyCoverage(codes=4, kept=1, occurrences=5 / 35)
    assert vocabulary_coverage(SMALL, amplified) == VocabularyCoverage(codes=4, kept=3, occurrences=34 / 35)
    assert str(vocabulary_coverage(LARGE, amplified)) == "2 of 4 codes, 93.17% of occurrences"


def test_the_minimum_of_patients_applies_before_amplification():
    assert codes(mixed_vocabulary([LARGE, SMALL], [1, 100], min_patients=9)) == ["x", "a", "y", "b", "c", "d"]


def test_one_corpus_keeps_its_vocabulary():
    assert mixed_vocabulary([LARGE], [3]) == LARGE


@pytest.mark.parametrize(
    ("amplified", "size", "key"),
    [([1], None, "factor-count"), ([1, 0], None, "invalid-setting"), ([1, 1], 5, "invalid-setting")],
)
def test_invalid_factors_and_sizes_are_refused(amplified, size, key):
    with raises_user_error(key):
        mixed_vocabulary([LARGE, SMALL], amplified, size)


def test_a_vocabulary_without_counts_is_refused():
    with raises_user_error("vocabulary-without-counts"):
        mixed_vocabulary([LARGE, Vocabulary.from_types({"empty_pad": 0, "a": 1})], [1, 1])


corpora = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 99), min_size=1)


@given(large=corpora, small=corpora, factor=st.floats(1, 1e3), extra=st.integers(1, 9))
def test_amplification_never_costs_the_small_corpus_patients(large, small, factor, extra):
    """Codes are selected by the amplified count, so it never reduces the share of the small corpus."""
    both, size = [corpus_of(**large), corpus_of(**small)], SPECIAL + extra
    plain, amplified = (mixed_vocabulary(both, [1, times], size) for times in (1, factor))
    assert len(plain) == len(amplified) <= size
    of_small = [sum(small.get(code, 0) for code in codes(vocabulary)) for vocabulary in (plain, amplified)]
    assert of_small[1] >= of_small[0]
