import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.codes.headings import ancestors
from ehr_bert.export.history_tokenizer import HistoryTokenizer, headings
from ehr_bert.export.rare_codes import kept_tokens
from ehr_bert.vocabulary import CodeCount, Vocabulary
from tests.user_errors import raises_user_error

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


def test_a_rare_code_is_read_as_its_nearest_heading_or_unk():
    vocabulary = vocabulary_of(COUNTS)
    kept = kept_tokens([*vocabulary.tokens, "[unused15]"], vocabulary, 5)
    assert kept.tokens == (
        *SPECIAL,
        "ICD10_E11",
        "ICD9_401.9",
        "ICD10_E11.621",
        "ICD9_250",
        "[unused15]",
    )
    assert [vocabulary.tokens[row] for row in kept.rows[:-1]] == list(kept.tokens[:-1])
    read_as = {token: kept.tokens[kept.ids[index]] for index, token in enumerate(vocabulary.tokens)}
    assert {token: read_as[token] for token in read_as if read_as[token] != token} == {
        "ICD9_250.00": "ICD9_250",
        "ICD10_E11.6": "ICD10_E11",
        "ICD10_E11.62": "ICD10_E11",
        "SNOMED_44054006": "[UNK]",
        "SEX_OTHER": "[UNK]",
        "ICD10_I10": "[UNK]",
    }
    assert (kept.omitted, kept.to_heading, kept.to_unknown) == (6, 3, 3)
    assert str(kept) == (
        "6 codes of fewer than 5 patients are omitted: 3 are read as a heading above them, 3 as [UNK]"
    )


@pytest.mark.parametrize(
    ("min_patients", "message"),
    [(0, "all codes are kept, including"), (1, "1 codes of fewer than 1 patients are omitted")],
)
def test_the_minimum_number_of_patients_can_be_lower(min_patients, message):
    vocabulary = vocabulary_of(COUNTS)
    kept = kept_tokens(vocabulary.tokens, vocabulary, min_patients)
    assert kept.tokens == vocabulary.tokens[: len(vocabulary) - min_patients]
    assert message in str(kept)


def test_without_rare_codes_all_are_kept():
    vocabulary = vocabulary_of({"ICD9_250": 5, "ICD9_401": 6})
    kept = kept_tokens(vocabulary.tokens, vocabulary, 5)
    assert kept.tokens == vocabulary.tokens
    assert str(kept) == "all codes are kept, because each has 5 patients or more"


def test_without_counts_all_codes_are_kept_and_the_message_says_how_to_count():
    vocabulary = Vocabulary.from_types({"empty_pad": 0, "ICD9_250.00": 1})
    kept = kept_tokens(vocabulary.tokens, vocabulary, 5)
    assert kept.tokens == vocabulary.tokens
    assert kept.min_patients is None
    assert "the vocabulary has no counts" in str(kept)
    assert "--vocabulary FILE`" in str(kept)


def test_rare_codes_of_a_model_without_unk_are_refused():
    vocabulary = vocabulary_of({"ICD9_250": 7, "ICD9_250.00": 1})
    tokens = ["[PAD]", "ICD9_250", "ICD9_250.00"]
    assert kept_tokens(tokens, vocabulary, 1).omitted == 0
    with raises_user_error("no-unknown-token", "fewer than 5 patients", "--min-patients 0"):
        kept_tokens(tokens, vocabulary, 5)


CODES = st.from_regex(r"(ICD9_|ICD10_|SNOMED_)[0-9E]{1,4}(\.[0-9.]{0,3})?", fullmatch=True)


@given(st.dictionaries(CODES, st.integers(0, 9), min_size=1), st.integers(0, 9))
def test_the_tokenizer_reads_every_code_as_in_the_comparison(tmp_path_factory, counts, min_patients):
    vocabulary = vocabulary_of(counts)
    kept = kept_tokens(vocabulary.tokens, vocabulary, min_patients)
    file = tmp_path_factory.getbasetemp() / "vocab.json"
    file.write_text(json.dumps({token: index for index, token in enumerate(kept.tokens)}))
    tokenizer = HistoryTokenizer(str(file), type_vocab_size=3, unk_token="[UNK]", pad_token="[PAD]")
    assert tokenizer.convert_tokens_to_ids(list(vocabulary.tokens)) == kept.ids.tolist()
    np.testing.assert_array_equal(kept.ids[kept.rows], np.arange(len(kept.tokens)))
    few = {code for code, patients in counts.items() if patients < min_patients}
    assert few.isdisjoint(kept.tokens) or not any(counts.values())


@given(CODES)
def test_the_headings_of_the_tokenizer_are_those_of_the_package(code):
    assert list(headings(code)) == list(ancestors(code))
