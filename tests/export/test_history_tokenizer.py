# Covers: ehr_bert.export.tokenizer
import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    AutoTokenizer,
    BertTokenizer,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
)

from ehr_bert.examples.windows import LongPatients, cut
from ehr_bert.export.history_tokenizer import HistoryTokenizer
from ehr_bert.export.tokenizer import row_tokens, unwritable_tokens, write_tokenizer
from ehr_bert.vocabulary import Vocabulary
from tests.export.small import CLS_ID, CODES, VOCABULARY
from tests.model.small import SMALL
from tests.user_errors import raises_user_error

WINDOW = SMALL.max_position_embeddings
PATIENTS = st.lists(st.lists(st.sampled_from(CODES), min_size=1, max_size=7), max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(path, SMALL, VOCABULARY.tokens, "[MASK]", "[CLS]")
    return path


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder, trust_remote_code=True)


@pytest.fixture(scope="module")
def med_bert(tmp_path_factory):
    """The tokenizer of a model whose examples have no `[CLS]` and are masked by id 0."""
    return write_tokenizer(tmp_path_factory.mktemp("med_bert"), SMALL, VOCABULARY.tokens, "[PAD]", None)


def text_of(patient):
    return " | ".join(" ".join(visit) for visit in patient)


def windows_of(patient, capacity):
    """The patient's latest window, as in the training examples."""
    codes = [VOCABULARY.ids[code] for visit in patient for code in visit]
    visits = [number for number, visit in enumerate(patient, 1) for _ in visit]
    columns = {"token_ids": [codes], "visit_ids": [visits], "los_days": [[1] * len(patient)]}
    batch = pa.record_batch({name: pa.array(v, pa.list_(pa.int32())) for name, v in columns.items()})
    return cut(batch, capacity, LongPatients.LATEST, skip_short_first_stays=False)[0]


@given(PATIENTS.filter(bool))
def test_a_history_is_encoded_like_the_training_examples(tokenizer, patient):
    window = windows_of(patient, WINDOW - 1).with_cls(CLS_ID)
    encoded = tokenizer(text_of(patient), truncation=True)
    assert encoded["input_ids"] == window.tokens.tolist()
    assert encoded["token_type_ids"] == np.minimum(window.visits, SMALL.type_vocab_size - 1).tolist()
    assert encoded["attention_mask"] == [1] * len(window.tokens)


@given(PATIENTS.filter(bool))
def test_without_a_cls_none_is_added(med_bert, patient):
    window = windows_of(patient, WINDOW)
    encoded = med_bert(text_of(patient), truncation=True)
    assert encoded["input_ids"] == window.tokens.tolist()
    assert encoded["token_type_ids"] == np.minimum(window.visits, SMALL.type_vocab_size - 1).tolist()


@given(PATIENTS)
def test_decoding_returns_the_codes(tokenizer, patient):
    ids = tokenizer(text_of(patient))["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=True).split() == [c for visit in patient for c in visit]


def test_a_history_is_encoded_as_documented(tokenizer):
    encoded = tokenizer(f"{CODES[0]} {CODES[1]} | {CODES[2]} [MASK]")
    assert encoded["input_ids"] == [2, 5, 6, 7, 4]
    assert encoded["token_type_ids"] == [0, 1, 1, 2, 2]


def test_spaces_around_a_border_and_empty_visits_are_ignored(tokenizer):
    tidy = tokenizer(f"{CODES[0]} | {CODES[1]}")
    assert tokenizer(f" | {CODES[0]}|| \t|{CODES[1]} |") == tidy


def test_an_unknown_code_becomes_unk(tokenizer):
    assert tokenizer(f"{CODES[0]} ICD10_NEW")["input_ids"] == [2, 5, 1]


def test_the_padding_token_can_be_the_mask_token(med_bert):
    assert med_bert.mask_token == "[PAD]"
    encoded = med_bert([f"{CODES[0]} [PAD] | {CODES[1]}", CODES[2]], padding=True)
    assert encoded["input_ids"] == [[5, 0, 6], [7, 0, 0]]
    assert encoded["attention_mask"] == [[1, 1, 1], [1, 0, 0]]


def test_batches_are_padded_on_the_right(tokenizer):
    encoded = tokenizer([f"{CODES[0]} | {CODES[1]}", ""], padding=True, return_tensors="pt")
    assert encoded["input_ids"].tolist() == [[2, 5, 6], [2, 0, 0]]
    assert encoded["token_type_ids"].tolist() == [[0, 1, 2], [0, 0, 0]]
    assert encoded["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]


def test_one_history_as_tensors_is_a_batch_of_one(tokenizer):
    assert tokenizer(CODES[0], return_tensors="pt")["input_ids"].tolist() == [[2, 5]]


def test_special_tokens_are_omitted_or_marked_on_request(tokenizer):
    bare = tokenizer(CODES[0], add_special_tokens=False)
    assert (bare["input_ids"], bare["token_type_ids"]) == ([5], [1])
    marked = tokenizer([CODES[0]], return_special_tokens_mask=True, return_length=True)
    assert marked["special_tokens_mask"] == [[1, 0]]
    assert marked["length"] == [2]


def test_the_masking_of_transformers_keeps_the_visits(tokenizer):
    texts = [f"{CODES[0]} {CODES[1]} | {CODES[2]}", CODES[3]]
    collate = DataCollatorForLanguageModeling(tokenizer, mlm_probability=1.0, seed=1)
    encoded = collate([tokenizer(text, return_special_tokens_mask=True) for text in texts])
    assert encoded["token_type_ids"].tolist() == [[0, 1, 1, 2], [0, 1, 0, 0]]
    assert torch.equal(encoded["labels"], torch.tensor([[-100, 5, 6, 7], [-100, 8, -100, -100]]))


@pytest.mark.parametrize(
    "misuse",
    [
        lambda tokenizer: tokenizer(CODES[0], CODES[1]),
        lambda tokenizer: tokenizer([CODES[0]], is_split_into_words=True),
        lambda tokenizer: tokenizer([[5, 6]]),
        lambda tokenizer: tokenizer(CODES[0], return_overflowing_tokens=True),
        lambda tokenizer: tokenizer.prepare_for_model([5, 6]),
        lambda tokenizer: tokenizer.create_token_type_ids_from_sequences([5, 6]),
    ],
)
def test_calls_that_would_lose_the_visits_are_refused(tokenizer, misuse):
    with pytest.raises((ValueError, NotImplementedError), match="history"):
        misuse(tokenizer)


def test_a_saved_tokenizer_is_the_same_and_contains_its_code(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path, trust_remote_code=True)
    text = f"{CODES[0]} | {CODES[1]} NEW [MASK]"
    assert again(text) == tokenizer(text)
    assert again.get_vocab() == tokenizer.get_vocab() == VOCABULARY.ids
    assert again.model_max_length == WINDOW


def test_with_the_package_imported_trust_remote_code_is_not_needed(folder):
    assert type(AutoTokenizer.from_pretrained(folder)) is HistoryTokenizer


@pytest.mark.parametrize("stock", [BertTokenizer, PreTrainedTokenizerFast])
def test_a_stock_tokenizer_stops_with_the_reason(folder, stock):
    with pytest.raises(Exception, match=r"visit ids .* load with trust_remote_code=True"):
        stock.from_pretrained(folder)


def test_rows_without_a_token_get_names(tmp_path):
    few = Vocabulary.from_types({"empty_pad": 0, "A": 1})
    tokenizer = write_tokenizer(tmp_path, SMALL, row_tokens(SMALL, few), "[MASK]", "[CLS]")
    assert tokenizer.vocab_size == SMALL.vocab_size
    assert tokenizer.convert_ids_to_tokens([0, 1, SMALL.vocab_size - 1]) == ["[PAD]", "A", "[unused28]"]


def test_special_tokens_without_a_row_are_omitted_and_unknown_codes_refused(tmp_path):
    types = {"empty_pad": 0} | {code: number for number, code in enumerate(["A", "B"], 1)}
    config = type(SMALL)(**SMALL.to_dict() | {"vocab_size": 3})
    tokens = row_tokens(config, Vocabulary.from_types(types))
    tokenizer = write_tokenizer(tmp_path, config, tokens, "[PAD]", None)
    assert tokenizer.get_vocab() == {"[PAD]": 0, "A": 1, "B": 2}
    with pytest.raises(ValueError, match=r"'C' is not in the vocabulary, and this model has no \[UNK\]"):
        tokenizer("A C")


def test_a_code_without_a_row_is_refused():
    config = type(SMALL)(**SMALL.to_dict() | {"vocab_size": 20})
    with raises_user_error("vocabulary-too-large", 20, 29, "'ICD10_E15'"):
        row_tokens(config, VOCABULARY)


def test_codes_with_separators_are_listed():
    odd = Vocabulary.from_types({"empty_pad": 0, "A B": 1, "C|D": 2, "E": 3})
    assert unwritable_tokens(odd.tokens) == ["A B", "C|D"]


def test_the_folder_contains_no_path_of_this_machine(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert str(folder) not in json.dumps(config)
    assert config["tokenizer_class"] == "HistoryTokenizer"
