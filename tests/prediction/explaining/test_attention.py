import numpy as np
import pytest
import torch

from ehr_bert.prediction.batches import collate
from ehr_bert.prediction.encoders import bert_encoder, code_embedding
from ehr_bert.prediction.explaining.attention import attention_by_visit, attention_to_codes, attention_weights
from ehr_bert.prediction.reading import ModelVocabulary, encode
from tests.prediction.small import CODES, CONFIG, TOKENS, histories_of
from tests.user_errors import raises_user_error

HEADS, SIZE = CONFIG.num_attention_heads, CONFIG.hidden_size // CONFIG.num_attention_heads


@pytest.fixture
def encoded(export):
    return encode(histories_of([[CODES[:3], CODES[5:7]]]), ModelVocabulary.of_folder(export))


def random_weights(tokens, seed=0):
    weights = np.random.default_rng(seed).random((2, 3, tokens, tokens)).astype(np.float32)
    return weights / weights.sum(axis=-1, keepdims=True)


@torch.no_grad()
def test_the_weights_of_the_first_layer_follow_the_formula(export, encoded):
    encoder = bert_encoder(export, "eager")
    result = attention_weights(encoder, encoded)
    assert result.shape == (2, HEADS, 6, 6)
    np.testing.assert_allclose(result.sum(axis=-1), 1, atol=1e-6)
    batch = collate(encoded, np.array([0]))
    hidden = encoder.bert.embeddings(input_ids=batch.token_ids, token_type_ids=batch.visit_ids)[0]  # [T, H]
    attention = encoder.bert.encoder.layer[0].attention.self
    query, key = (part(hidden).view(6, HEADS, SIZE) for part in (attention.query, attention.key))
    expected = (torch.einsum("qad,kad->aqk", query, key) / SIZE**0.5).softmax(dim=-1)
    np.testing.assert_allclose(result[0], expected, atol=1e-6)


@pytest.mark.parametrize("encoder", ["fused", "without"])
def test_an_encoder_without_attention_weights_is_refused(export, encoded, encoder):
    without_weights = bert_encoder(export) if encoder == "fused" else code_embedding(len(TOKENS), seed=0)
    with raises_user_error("no-attention-weights"):
        attention_weights(without_weights, encoded)


def test_attention_to_codes_is_from_the_first_token_or_the_mean_of_all():
    weights, is_code = random_weights(5), np.array([False, True, True, True, True])
    assert np.array_equal(attention_to_codes(weights, is_code, from_first=True), weights[:, :, 0, 1:])
    by_all = attention_to_codes(weights, is_code, from_first=False)
    np.testing.assert_allclose(by_all, sum(weights[:, :, row, 1:] for row in range(5)) / 5, rtol=1e-5)


def test_attention_between_visits_is_the_mean_over_tokens_of_sums():
    weights, visits = random_weights(7), np.array([0, 3, 3, 4, 9, 9, 9])
    result = attention_by_visit(weights, visits)
    assert result.shape == (2, 3, 4, 4)
    np.testing.assert_allclose(result.sum(axis=-1), 1, atol=1e-6)
    for row, one in enumerate((0, 3, 4, 9)):
        for column, other in enumerate((0, 3, 4, 9)):
            block = weights[:, :, visits == one][..., visits == other]
            np.testing.assert_allclose(result[..., row, column], block.sum(axis=-1).mean(axis=-1), rtol=1e-5)
