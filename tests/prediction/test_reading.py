import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ehr_bert.export.history_tokenizer import HistoryTokenizer
from ehr_bert.prediction.reading import ModelVocabulary, encode
from tests.prediction.small import CODES, TOKENS, export_folder, histories_of, random_patients
from tests.user_errors import raises_user_error

NEW = ["ICD10_E3.14", "ICD10_E23.9", "ICD10_Z99", "other"]
PATIENTS = st.lists(
    st.lists(st.lists(st.sampled_from(CODES + NEW), min_size=1, max_size=7), max_size=8),
    min_size=1,
    max_size=5,
)


def text_of(patient):
    return " | ".join(" ".join(visit) for visit in patient)


def rows(encoded, values):
    return [
        values[start:end].tolist() for start, end in zip(encoded.offsets, encoded.offsets[1:], strict=False)
    ]


@pytest.mark.parametrize("folder", ["export", "without_cls"])
@given(PATIENTS, st.integers(2, 11))
def test_encoding_equals_that_of_the_tokenizer(request, folder, patients, max_length):
    folder = request.getfixturevalue(folder)
    encoded = encode(histories_of(patients), ModelVocabulary.of_folder(folder), max_length)
    expected = HistoryTokenizer.from_pretrained(folder)(
        list(map(text_of, patients)), truncation=True, max_length=max_length
    )
    assert rows(encoded, encoded.token_ids) == expected["input_ids"]
    assert rows(encoded, encoded.visit_ids) == expected["token_type_ids"]


def test_tokens_keep_their_codes_and_skipped_visits_are_counted(export):
    histories = histories_of([[CODES[:3], CODES[:4], CODES[4:8]], [CODES[9:10]], []])
    encoded = encode(histories, ModelVocabulary.of_folder(export), max_length=10)
    assert encoded.skipped_visits.tolist() == [1, 0, 0]
    assert encoded.lengths.tolist() == [9, 2, 1]
    assert encoded.code_places.tolist() == [-1, *range(3, 11), -1, 11, -1]
    real = encoded.code_places >= 0
    read = histories.vocabulary[histories.codes[encoded.code_places[real]]]
    assert [TOKENS[index] for index in encoded.token_ids[real]] == read.tolist()


def test_selecting_rows_before_or_after_encoding_is_the_same(export):
    histories, rows = histories_of(random_patients(9)), np.array([7, 0, 3, 3])
    vocabulary = ModelVocabulary.of_folder(export)
    before, after = encode(histories.take(rows), vocabulary), encode(histories, vocabulary).take(rows)
    for name in ("token_ids", "visit_ids", "offsets", "skipped_visits"):
        assert np.array_equal(getattr(before, name), getattr(after, name)), name


def test_a_model_from_scratch_knows_only_its_training_codes():
    histories = histories_of([[["B", "A"]], [["C"]]])
    vocabulary = ModelVocabulary.of_codes(histories.take(np.array([0])))
    assert dict(vocabulary.ids) == {"[PAD]": 0, "A": 1, "B": 2}
    assert encode(histories, vocabulary).token_ids.tolist() == [2, 1, 0]


def test_context_tokens_that_the_model_does_not_know_are_left_out(export):
    histories = histories_of([[["AGE_61", CODES[0]], ["GAP_3", CODES[1]]]])
    encoded = encode(histories, ModelVocabulary.of_folder(export))
    assert encoded.token_ids.tolist() == [2, 5, 6]
    assert encoded.visit_ids.tolist() == [0, 1, 2]
    assert encoded.code_places.tolist() == [-1, 1, 3]


def test_an_unknown_code_is_refused_if_the_model_has_no_unk(tmp_path):
    tokens = ["[PAD]", "[MASK]", *CODES]
    vocabulary = ModelVocabulary.of_folder(export_folder(tmp_path / "model", cls_token=None, tokens=tokens))
    with raises_user_error("unknown-code", "'Z'", "[UNK]"):
        encode(histories_of([[["Z"]]]), vocabulary)


def test_a_length_above_the_limit_of_the_model_is_refused(export):
    with raises_user_error("length-out-of-range", 12, "2 to 11"):
        encode(histories_of([[["A"]]]), ModelVocabulary.of_folder(export), max_length=12)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    with raises_user_error("not-an-export", tmp_path, "vocab.json"):
        ModelVocabulary.of_folder(tmp_path)
