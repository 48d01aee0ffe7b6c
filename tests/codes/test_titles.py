import pytest

from ehr_bert.codes.titles import read_titles, titles_of
from tests.user_errors import raises_user_error


@pytest.mark.parametrize(
    ("code", "title"),
    [
        ("ICD9_428.0", "Congestive heart failure, unspecified"),
        ("ICD10_I50", "[Congestive heart failure; nonhypertensive]"),
        ("ICD10_E11", "[Endocrine and metabolic]"),
        ("CCS_108", "Congestive heart failure; nonhypertensive"),
        ("SEX_F", "sex F"),
        ("AGE_60-69", "age 60 to 69"),
        ("GAP_731+", "731+ days since the previous visit"),
        ("SNOMED_44054006", ""),
        ("[UNK]", ""),
    ],
)
def test_title_of_a_code(code, title):
    assert titles_of([code]) == {code: title}


def test_titles_of_the_user_override_published_ones():
    assert titles_of(["ICD9_428.0"], {"ICD9_428.0": "weak heart"}) == {"ICD9_428.0": "weak heart"}


def test_titles_are_the_first_two_columns(tmp_path):
    path = tmp_path / "titles.tsv"
    path.write_text("A\tone\tmore\nB\nC\tthree\n")
    assert read_titles(path) == {"A": "one", "C": "three"}


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with raises_user_error("unreadable-file", tmp_path / "gone.tsv"):
        read_titles(tmp_path / "gone.tsv")
    (tmp_path / "latin.tsv").write_bytes(b"A\tM\xe9ni\xe8re\n")
    with raises_user_error("not-utf8", tmp_path / "latin.tsv"):
        read_titles(tmp_path / "latin.tsv")
