import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.errors import UserError
from ehr_bert.schemas import SpecialToken
from ehr_bert.sequences.mixed_vocabulary import Survival, mixed_vocabulary, survival
from ehr_bert.vocabulary import CodeCount, Vocabulary

SPECIAL = len(SpecialToken)


def of(**patients: int) -> Vocabulary:
    """A corpus by the patients of each code, who have it twice each."""
    return Vocabulary.from_counts(CodeCount(code, count, 2 * count) for code, count in patients.items())


LARGE = of(a=1000, b=500, c=60, d=50)
SMALL = of(a=5, x=20, y=9, z=1)


def codes(vocabulary: Vocabulary) -> list[str]:
    return list(vocabulary.tokens[SPECIAL:])


def test_codes_stand_by_falling_patient_count_with_the_counts_of_all_corpora():
    found = mixed_vocabulary([LARGE, SMALL], [1, 1])
    assert codes(found) == ["a", "b", "c", "d", "x", "y", "z"]
    assert found.patients[SPECIAL:] == (1005, 500, 60, 50, 20, 9, 1)
    assert found.occurrences[SPECIAL] == 2010


def test_a_small_corpus_is_crowded_out_of_a_small_vocabulary_unless_it_is_amplified():
    plain = mixed_vocabulary([LARGE, SMALL], [1, 1], size=SPECIAL + 4)
    amplified = mixed_vocabulary([LARGE, SMALL], [1, 10], size=SPECIAL + 4)
    assert codes(plain) == ["a", "b", "c", "d"]
    assert codes(amplified) == ["a", "b", "x", "y"]
    assert amplified.patients[SPECIAL:] == (1005, 500, 20, 9)  # as they are
    assert survival(SMALL, plain) == Survival(codes=4, kept=1, occurrences=5 / 35)
    assert survival(SMALL, amplified) == Survival(codes=4, kept=3, occurrences=34 / 35)
    assert str(survival(LARGE, amplified)) == "2 of 4 codes, 93.17% of occurrences"


def test_rare_codes_are_judged_by_patients_as_they_are():
    assert codes(mixed_vocabulary([LARGE, SMALL], [1, 100], min_patients=9)) == ["x", "a", "y", "b", "c", "d"]


def test_one_corpus_keeps_its_vocabulary():
    assert mixed_vocabulary([LARGE], [3]) == LARGE


@pytest.mark.parametrize(
    ("amplified", "size", "message"),
    [
        ([1], None, "2 corpora are named and 1 amplifications: name as many"),
        ([1, 0], None, "an amplification is 0: it must be above 0"),
        ([1, 1], 5, "a vocabulary of 5 tokens has no room beside 5 special tokens"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(amplified, size, message):
    with pytest.raises(UserError, match=message):
        mixed_vocabulary([LARGE, SMALL], amplified, size)


def test_a_vocabulary_without_counts_is_refused():
    with pytest.raises(UserError, match="tells no counts"):
        mixed_vocabulary([LARGE, Vocabulary.from_types({"empty_pad": 0, "a": 1})], [1, 1])


corpora = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 99), min_size=1)


@given(large=corpora, small=corpora, factor=st.floats(1, 1e3), room=st.integers(1, 9))
def test_amplification_never_costs_the_small_corpus_patients(large, small, factor, room):
    """Codes are chosen by the amplified count: no other choice of as many holds more of the small corpus."""
    both, size = [of(**large), of(**small)], SPECIAL + room
    plain, amplified = (mixed_vocabulary(both, [1, times], size) for times in (1, factor))
    assert len(plain) == len(amplified) <= size
    of_small = [sum(small.get(code, 0) for code in codes(vocabulary)) for vocabulary in (plain, amplified)]
    assert of_small[1] >= of_small[0]
