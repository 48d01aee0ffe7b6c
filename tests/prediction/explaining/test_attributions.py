import numpy as np
import pytest
import torch

from ehr_bert.prediction.batches import collate
from ehr_bert.prediction.encoders import bert_encoder, code_embedding
from ehr_bert.prediction.explaining import attributions
from ehr_bert.prediction.explaining.attributions import COMPLETENESS_TOLERANCE, attribute
from ehr_bert.prediction.fitting import predict_logits
from ehr_bert.prediction.heads import HEADS
from ehr_bert.prediction.predictor import make_predictor
from ehr_bert.prediction.reading import ModelVocabulary, encode
from tests.prediction.small import CODES, TOKENS, histories_of

PATIENT = [CODES[:3], CODES[3:4], [CODES[7], CODES[1]]]


@pytest.fixture
def encoded(export):
    return encode(histories_of([PATIENT]), ModelVocabulary.of_folder(export))


@pytest.mark.parametrize("head", HEADS)
def test_contributions_sum_to_the_difference_of_the_logits(export, encoded, head):
    predictor = make_predictor(bert_encoder(export), head, outputs=3, seed=1)
    attribution = attribute(predictor, encoded, output=2)
    assert attribution.is_complete
    assert abs(attribution.error) <= COMPLETENESS_TOLERANCE
    assert attribution.logit == pytest.approx(predict_logits(predictor, encoded)[0, 2], abs=1e-5)
    assert attribution.contributions.sum() == pytest.approx(
        attribution.logit - attribution.blank_logit, abs=COMPLETENESS_TOLERANCE
    )
    assert attribution.contributions.shape == (7,)
    assert attribution.contributions[0] == 0  # [CLS]
    assert np.abs(attribution.contributions[1:]).min() > 0


def test_contributions_of_a_linear_model_are_weights_times_vectors(encoded):
    predictor = make_predictor(code_embedding(len(TOKENS), seed=2), "mean", seed=3)
    attribution = attribute(predictor, encoded)
    table, weights = predictor.encoder.embedding.weight.detach(), predictor.head.linear.weight.detach()[0]
    expected = (table[encoded.token_ids] - table[0]) @ weights / len(encoded.token_ids)
    np.testing.assert_allclose(attribution.contributions[1:], expected[1:], atol=1e-6)
    assert attribution.blank_logit == pytest.approx(
        float((table[encoded.token_ids[:1]] @ weights / 7 + predictor.head.linear.bias).detach()), abs=1e-6
    )


def test_contributions_of_bert_are_the_integral_of_the_gradients(export, encoded):
    """The integral is computed from the input embeddings of the stock BERT, at the midpoints of 300 steps."""
    predictor = make_predictor(bert_encoder(export), "cls", seed=4)
    bert, head = predictor.encoder.bert, predictor.head
    batch = collate(encoded, np.array([0]))
    table = predictor.encoder.token_embedding.weight.detach()
    vectors, blank = table[batch.token_ids], table[batch.token_ids.where(batch.token_ids == 2, 0)]
    summed = torch.zeros_like(vectors[0])
    for step in range(300):
        point = (blank + (step + 0.5) / 300 * (vectors - blank)).requires_grad_()
        hidden = bert(
            inputs_embeds=point, token_type_ids=batch.visit_ids, attention_mask=batch.attention_mask
        ).last_hidden_state
        summed += torch.autograd.grad(head(hidden, batch)[0, 0], point)[0][0] / 300
    expected = (summed * (vectors - blank)[0]).sum(dim=-1)
    np.testing.assert_allclose(attribute(predictor, encoded).contributions, expected, atol=2e-3)


def test_steps_increase_until_the_contributions_are_complete(export, encoded, monkeypatch):
    predictor = make_predictor(bert_encoder(export), "cls", seed=1)
    with torch.no_grad():
        predictor.head.linear.weight.mul_(20)
    monkeypatch.setattr(attributions, "INTEGRATION_STEPS", (1, 2, 64, 1024))
    assert 2 < attribute(predictor, encoded).steps < 1024
    monkeypatch.setattr(attributions, "INTEGRATION_STEPS", (1,))
    rough = attribute(predictor, encoded)
    assert not rough.is_complete
    assert abs(rough.error) > COMPLETENESS_TOLERANCE


def test_the_batch_size_does_not_change_the_contributions(export, encoded, monkeypatch):
    predictor = make_predictor(bert_encoder(export), "retain", seed=1)
    at_once = attribute(predictor, encoded).contributions
    monkeypatch.setattr(attributions, "_BATCH_TOKENS", 35)
    np.testing.assert_allclose(attribute(predictor, encoded).contributions, at_once, atol=1e-6)
