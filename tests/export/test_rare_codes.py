import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.codes.headings import ancestors
from ehr_bert.errors import UserError
from ehr_bert.export.history_tokenizer import HistoryTokenizer, headings
from ehr_bert.export.rare_codes import kept_tokens
from ehr_bert.vocabulary import CodeCount, Vocabulary

COUNTS = {
    "ICD10_E11": 9,
    "ICD9_401.9": 8,
    "ICD10_E11.621": 7,
    "ICD9_250": 5,
    "ICD9_250.00": 4,
    "ICD10_E11.6": 4,
    "SNOMED_44054006": 3,
    "ICD10_E11.62": 2,
    "SEX_OTHER": 1,
    "ICD10_I10": 0,
}
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def vocabulary_of(counts):
    return Vocabulary.from_counts(CodeCount(code, patients, patients) for code, patients in counts.items())


def test_what_too_few_patients_have_is_read_as_its_nearest_heading_or_unk():
    vocabulary = vocabulary_of(COUNTS)
    found = kept_tokens([*vocabulary.tokens, "[unused15]"], vocabulary, 5)
    assert found.tokens == (
        *SPECIAL,
        "ICD10_E11",
        "ICD9_401.9",
        "ICD10_E11.621",
        "ICD9_250",
        "[unused15]",
    )
    assert [vocabulary.tokens[row] for row in found.rows[:-1]] == list(found.tokens[:-1])
    read_as = {token: found.tokens[found.ids[index]] for index, token in enumerate(vocabulary.tokens)}
    assert {token: read_as[token] for token in read_as if read_as[token] != token} == {
        "ICD9_250.00": "ICD9_250",
        "ICD10_E11.6": "ICD10_E11",
        "ICD10_E11.62": "ICD10_E11",
        "SNOMED_44054006": "[UNK]",
        "SEX_OTHER": "[UNK]",
        "ICD10_I10": "[UNK]",
    }
    assert (found.left_out, found.to_heading, found.to_unknown) == (6, 3, 3)
    assert str(found) == (
        "6 codes of fewer than 5 patients are left out: 3 are read as a heading above them, 3 as [UNK]"
    )


@pytest.mark.parametrize(
    ("min_patients", "told"),
    [(0, "all codes are kept, however few"), (1, "1 codes of fewer than 1 patients are left out")],
)
def test_fewer_patients_may_be_enough(min_patients, told):
    vocabulary = vocabulary_of(COUNTS)
    found = kept_tokens(vocabulary.tokens, vocabulary, min_patients)
    assert found.tokens == vocabulary.tokens[: len(vocabulary) - min_patients]
    assert told in str(found)


def test_where_no_code_is_rare_all_are_kept():
    vocabulary = vocabulary_of({"ICD9_250": 5, "ICD9_401": 6})
    found = kept_tokens(vocabulary.tokens, vocabulary, 5)
    assert found.tokens == vocabulary.tokens
    assert str(found) == "all codes are kept, none of fewer than 5 patients"


def test_without_counts_all_is_kept_and_how_to_count_is_told():
    vocabulary = Vocabulary.from_types({"empty_pad": 0, "ICD9_250.00": 1})
    found = kept_tokens(vocabulary.tokens, vocabulary, 5)
    assert found.tokens == vocabulary.tokens
    assert found.min_patients is None
    assert "the vocabulary has no counts" in str(found)
    assert "--vocabulary FILE` counts them" in str(found)


def test_a_model_that_has_no_unk_keeps_its_rare_codes_or_is_refused():
    vocabulary = vocabulary_of({"ICD9_250": 7, "ICD9_250.00": 1})
    tokens = ["[PAD]", "ICD9_250", "ICD9_250.00"]
    assert kept_tokens(tokens, vocabulary, 1).left_out == 0
    with pytest.raises(UserError, match=r"of fewer than 5 patients, and no \[UNK\] .*--min-patients 0"):
        kept_tokens(tokens, vocabulary, 5)


CODES = st.from_regex(r"(ICD9_|ICD10_|SNOMED_)[0-9E]{1,4}(\.[0-9.]{0,3})?", fullmatch=True)


@given(st.dictionaries(CODES, st.integers(0, 9), min_size=1), st.integers(0, 9))
def test_the_tokenizer_reads_every_code_as_it_was_compared(tmp_path_factory, counts, min_patients):
    vocabulary = vocabulary_of(counts)
    found = kept_tokens(vocabulary.tokens, vocabulary, min_patients)
    file = tmp_path_factory.getbasetemp() / "vocab.json"
    file.write_text(json.dumps({token: index for index, token in enumerate(found.tokens)}))
    tokenizer = HistoryTokenizer(str(file), type_vocab_size=3, unk_token="[UNK]", pad_token="[PAD]")
    assert tokenizer.convert_tokens_to_ids(list(vocabulary.tokens)) == found.ids.tolist()
    np.testing.assert_array_equal(found.ids[found.rows], np.arange(len(found.tokens)))
    few = {code for code, patients in counts.items() if patients < min_patients}
    assert few.isdisjoint(found.tokens) or not any(counts.values())


@given(CODES)
def test_the_tokenizers_headings_are_the_projects(code):
    assert list(headings(code)) == list(ancestors(code))
