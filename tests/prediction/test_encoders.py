import numpy as np
import pytest
import torch
from transformers import AutoModel

from ehr_bert.export.history_tokenizer import HistoryTokenizer
from ehr_bert.prediction.batches import collate
from ehr_bert.prediction.encoders import bert_encoder, code_embedding, untrained_bert
from ehr_bert.prediction.reading import ModelVocabulary, encode
from tests.prediction.small import CODES, CONFIG, TOKENS, histories_of
from tests.user_errors import raises_user_error


@pytest.fixture(scope="module")
def batch(export):
    histories = histories_of([[CODES[:2], CODES[2:5]], [CODES[7:8]]])
    return collate(encode(histories, ModelVocabulary.of_folder(export)), np.arange(2))


@torch.no_grad()
def test_the_encoder_is_what_hugging_face_loads(export, batch):
    text = [f"{CODES[0]} {CODES[1]} | {' '.join(CODES[2:5])}", CODES[7]]
    inputs = HistoryTokenizer.from_pretrained(export)(text, padding=True, return_tensors="pt")
    expected = AutoModel.from_pretrained(export)(**inputs).last_hidden_state
    real = batch.attention_mask
    for attention in ("sdpa", "eager"):
        vectors = bert_encoder(export, attention)(batch)
        torch.testing.assert_close(vectors[real], expected[real], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_an_untrained_encoder_has_the_shape_and_random_weights(export, batch):
    one, same, other = (untrained_bert(export, seed)(batch) for seed in (0, 0, 1))
    assert one.shape == (2, 6, CONFIG.hidden_size)
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_levels_contain_every_weight_except_the_poolers(export):
    encoder = bert_encoder(export)
    of_levels = {id(weight) for level in encoder.levels for weight in level.parameters()}
    assert of_levels == {id(weight) for weight in encoder.parameters() if weight.requires_grad}
    assert len(encoder.levels) == 1 + CONFIG.num_hidden_layers
    assert encoder.token_embedding.weight.shape == (len(TOKENS), CONFIG.hidden_size)


def test_padding_and_unseen_codes_add_nothing(batch):
    vectors = code_embedding(len(TOKENS), seed=0)(batch)
    assert (vectors[batch.token_ids == 0] == 0).all()
    assert (vectors[batch.token_ids != 0] != 0).all()


@pytest.mark.parametrize("make", [bert_encoder, lambda folder: untrained_bert(folder, 0)])
def test_a_folder_without_a_model_is_refused(make, tmp_path):
    with raises_user_error("not-an-export", tmp_path, "config.json"):
        make(tmp_path)


def test_broken_weights_are_refused(export, tmp_path):
    (tmp_path / "config.json").write_text((export / "config.json").read_text())
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with raises_user_error("unreadable-weights", tmp_path):
        bert_encoder(tmp_path)
