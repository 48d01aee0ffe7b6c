import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.schemas import SpecialToken
from ehr_bert.vocabulary import TUTORIAL_PAD, CodeCount, Vocabulary, read_types
from tests.user_errors import raises_user_error

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
CODES = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r["), min_size=1).filter(
        lambda code: code != TUTORIAL_PAD
    ),
    unique=True,
    max_size=20,
)


def counts(**patients):
    return [CodeCount(code, count, 2 * count) for code, count in patients.items()]


def test_codes_are_numbered_by_decreasing_patient_count_after_the_special_tokens():
    vocabulary = Vocabulary.from_counts(counts(b=3, a=3, c=7))
    assert vocabulary.tokens == (*SPECIAL, "c", "a", "b")
    assert vocabulary.patients == (0, 0, 0, 0, 0, 7, 3, 3)
    assert vocabulary.occurrences[5] == 14
    assert vocabulary.code_ids.tolist() == [5, 6, 7]


def test_a_given_vocabulary_keeps_its_ids_and_new_codes_are_appended():
    given_vocabulary = Vocabulary.from_types({"empty_pad": 0, "x": 2, "y": 1})
    assert given_vocabulary.tokens == ("[PAD]", "y", "x", *SPECIAL[1:])
    grown = Vocabulary.from_counts(counts(z=1, x=5, w=2), given=given_vocabulary)
    assert grown.tokens == (*given_vocabulary.tokens, "w", "z")
    assert grown.patients[2] == 5
    assert grown.patients[1] == 0


def test_unassigned_ids_of_a_types_file_are_not_codes():
    vocabulary = Vocabulary.from_types({"empty_pad": 0, "x": 3})
    assert vocabulary.tokens[:4] == ("[PAD]", "[unused1]", "[unused2]", "x")
    assert vocabulary.code_ids.tolist() == [3]


@given(CODES)
def test_a_vocabulary_survives_a_round_trip_through_types(codes):
    vocabulary = Vocabulary.from_counts(CodeCount(code, 1, 1) for code in codes)
    assert Vocabulary.from_types(vocabulary.to_types()).tokens == vocabulary.tokens


@given(codes=CODES)
def test_a_vocabulary_survives_a_round_trip_through_a_file(tmp_path_factory, codes):
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.tsv"
    vocabulary = Vocabulary.from_counts(CodeCount(code, 4, 5) for code in codes)
    vocabulary.write(path)
    assert Vocabulary.read(path) == vocabulary


def test_a_types_pickle_is_read_like_a_vocabulary_file(tmp_path):
    path = tmp_path / "P.types"
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        path.write_bytes(pickle.dumps({"empty_pad": 0, "ICD9_250.00": 1}, protocol=protocol))
        assert Vocabulary.read(path).ids["ICD9_250.00"] == 1


def test_a_list_of_tokens_is_read_by_line(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[MASK]\nICD9_250.00\n[UNK]\n")
    assert read_types(path) == {"[PAD]": 0, "[MASK]": 1, "ICD9_250.00": 2, "[UNK]": 3}
    assert Vocabulary.read(path).tokens == ("[PAD]", "[MASK]", "ICD9_250.00", "[UNK]", "[CLS]", "[SEP]")
    path.write_text("[PAD]\nx\ny\nx")
    with raises_user_error("duplicate-token", path, "'x'"):
        Vocabulary.read(path)


def test_the_fingerprint_depends_on_tokens_and_their_order_only():
    one = Vocabulary.from_counts(counts(a=2, b=1))
    assert one.sha256 == Vocabulary.from_counts(counts(a=9, b=1)).sha256
    assert one.sha256 != Vocabulary.from_counts(counts(a=1, b=2)).sha256


@pytest.mark.parametrize(
    ("types", "mentioned"),
    [
        ({"empty_pad": 0, "x": 1, "y": 1}, "'x' and 'y' to 1"),
        ({"empty_pad": 0, "x": -1}, "'x' to -1"),
        ({"empty_pad": 0, "x": "1"}, "'x' to '1'"),
        ({"x": 0}, "'x'"),
    ],
)
def test_invalid_ids_of_a_types_file_are_refused(types, mentioned):
    with raises_user_error("invalid-types-file", mentioned):
        Vocabulary.from_types(types)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[PAD]\t0\n", "invalid-vocabulary"),
        ("[PAD]\t0\t0\nx\tmany\t1\n", "invalid-vocabulary"),
        ("[PAD]\t0\t0\n", "missing-special-token"),
        ("nothing\n", "invalid-pickle"),
        ("", "empty-file"),
    ],
)
def test_a_file_that_is_not_a_vocabulary_is_refused_by_name(tmp_path, text, key):
    path = tmp_path / "vocabulary.tsv"
    path.write_text(text)
    with raises_user_error(key, path):
        Vocabulary.read(path)


def test_a_repeated_token_and_missing_special_tokens_are_refused():
    with raises_user_error("duplicate-token", "'x'"):
        Vocabulary((*SPECIAL, "x", "x"), (0,) * 7, (0,) * 7)
    with raises_user_error("missing-special-token", "[MASK]"):
        Vocabulary(SPECIAL[:-1], (0,) * 4, (0,) * 4)
    with raises_user_error("missing-special-token", "'x'"):
        Vocabulary(("x", *SPECIAL), (0,) * 6, (0,) * 6)
    with raises_user_error("missing-special-token"):
        Vocabulary((), (), ())


def test_a_missing_file_is_named(tmp_path):
    with raises_user_error("unreadable-file", tmp_path / "none.tsv"):
        Vocabulary.read(tmp_path / "none.tsv")


def test_special_tokens_are_found_at_any_id():
    vocabulary = Vocabulary.from_types({"empty_pad": 0, "x": 1})
    assert vocabulary.id_of(SpecialToken.MASK) == 5
