import json

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from ehr_bert.metrics.calibration import Calibration, Method
from ehr_bert.prediction.encoders import bert_encoder
from ehr_bert.prediction.fitting import predict_logits
from ehr_bert.prediction.heads import HEADS
from ehr_bert.prediction.predictor import load_predictor, make_predictor, save_predictor
from ehr_bert.prediction.reading import ModelVocabulary, encode
from tests.prediction.small import CODES, histories_of, random_patients
from tests.user_errors import raises_user_error

CALIBRATION = Calibration(Method.TEMPERATURE, temperature=1.5)


@pytest.fixture
def saved(export, tmp_path):
    predictor = make_predictor(bert_encoder(export), "bigru", seed=5)
    save_predictor(tmp_path / "saved", predictor, export, CALIBRATION, {"task": "label"}, max_length=9)
    return predictor, tmp_path / "saved"


@pytest.mark.parametrize("head", HEADS)
def test_a_saved_predictor_gives_the_same_logits(export, tmp_path, head):
    predictor = make_predictor(bert_encoder(export), head, outputs=2, seed=4)
    with torch.no_grad():
        predictor.encoder.token_embedding.weight.mul_(1.5)  # As after fine-tuning.
    save_predictor(tmp_path / "saved", predictor, export, None, {})
    again = load_predictor(tmp_path / "saved")
    encoded = encode(histories_of(random_patients(9)), ModelVocabulary.of_folder(export))
    assert np.array_equal(predict_logits(again.predictor, encoded), predict_logits(predictor, encoded))


def test_calibration_facts_and_length_are_read_back(saved, export):
    again = load_predictor(saved[1])
    assert again.calibration == CALIBRATION
    assert again.facts == {"stage": "finetune", "task": "label"}
    assert again.vocabulary.max_length == 9
    assert again.vocabulary.ids == ModelVocabulary.of_folder(export).ids


@torch.no_grad()
def test_hugging_face_loads_the_encoder_and_the_tokenizer(saved):
    predictor, folder = saved
    inputs = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)(CODES[0], return_tensors="pt")
    output = AutoModel.from_pretrained(folder)(**inputs)
    expected = predictor.encoder.bert(**inputs)
    torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state)
    torch.testing.assert_close(output.pooler_output, expected.pooler_output)


def test_no_file_is_a_pickle(saved):
    suffixes = {path.suffix for path in saved[1].iterdir()}
    assert suffixes == {".json", ".safetensors", ".py"}


def test_an_export_folder_is_not_a_predictor(export):
    with raises_user_error("not-a-predictor", export, "predictor.json"):
        load_predictor(export)


@pytest.mark.parametrize("change", [{"head": "gru"}, {"outputs": 3}])
def test_a_head_that_does_not_match_is_refused(saved, change):
    file = saved[1] / "predictor.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with raises_user_error("predictor-mismatch", "head.safetensors", "predictor.json"):
        load_predictor(saved[1])


def test_a_head_of_a_package_that_is_not_installed_is_refused(saved):
    file = saved[1] / "predictor.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"head": "max"}))
    with raises_user_error("unknown-head", file, "'max'"):
        load_predictor(saved[1])


def test_an_incomplete_file_is_refused(saved):
    (saved[1] / "predictor.json").write_text('{"head": "bigru"}')
    with raises_user_error("missing-key", "predictor.json", "outputs"):
        load_predictor(saved[1])
