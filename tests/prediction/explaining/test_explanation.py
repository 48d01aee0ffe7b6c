import numpy as np
import pytest
import torch
from scipy.special import expit

from ehr_bert.errors import UserError
from ehr_bert.metrics.calibration import Calibration, Method
from ehr_bert.prediction.encoders import bert_encoder
from ehr_bert.prediction.explaining.attention import attention_weights
from ehr_bert.prediction.explaining.explanation import explain
from ehr_bert.prediction.predictor import SavedPredictor, make_predictor
from ehr_bert.prediction.reading import ModelVocabulary, encode
from tests.prediction.small import CODES, MAX_LENGTH, histories_of

LONG = [CODES[:4], CODES[4:8], ["AGE_40-49", "ICD10_E9.77", CODES[2]], [*CODES[10:12], "SNOMED_1"]]
"""Eleven codes with one token that the model lacks and leaves out; the first visit is more than it reads."""


def saved_predictor(folder, head="cls", calibration=None):
    predictor = make_predictor(bert_encoder(folder, "eager"), head, seed=6)
    return SavedPredictor(predictor, ModelVocabulary.of_folder(folder), calibration, {})


def test_codes_and_visits_are_those_of_the_history(export):
    histories = histories_of([LONG])
    found = explain(saved_predictor(export), histories)
    assert found.codes.tolist() == [*CODES[4:8], "ICD10_E9.77", CODES[2], *CODES[10:12], "SNOMED_1"]
    assert found.read_as.tolist() == [*CODES[4:8], "ICD10_E9", CODES[2], *CODES[10:12], "[UNK]"]
    assert found.visits.tolist() == [2, 2, 2, 2, 3, 3, 4, 4, 4]
    assert len(found.codes) < MAX_LENGTH
    assert found.left_out == 5
    assert found.visit_numbers.tolist() == [2, 3, 4]
    sums = [found.contributions[found.visits == visit].sum() for visit in (2, 3, 4)]
    np.testing.assert_allclose(found.visit_contributions, sums)
    assert found.attribution.complete
    assert found.contributions.sum() == pytest.approx(found.attribution.contributions.sum())


def test_occurrences_of_a_code_are_added_up(export):
    found = explain(saved_predictor(export), histories_of([[CODES[:2], [CODES[1]], [CODES[0], CODES[2]]]]))
    first, sums, counts = found.by_code
    assert found.codes[first].tolist() == CODES[:3]
    assert counts.tolist() == [2, 2, 1]
    np.testing.assert_allclose(sums, [found.contributions[found.codes == code].sum() for code in CODES[:3]])


@pytest.mark.parametrize("head", ["cls", "gru"])
def test_attention_is_cut_to_codes_and_visits(export, head):
    histories, saved = histories_of([LONG]), saved_predictor(export, head)
    found = explain(saved, histories)
    weights = attention_weights(saved.predictor.encoder, encode(histories, saved.vocabulary))
    assert found.from_first == (head == "cls")
    rows = weights[:, :, 0] if head == "cls" else weights.mean(axis=2)
    np.testing.assert_allclose(found.attention, rows[..., 1:], rtol=1e-5)
    assert found.visit_attention.shape == (2, 3, 4, 4)
    np.testing.assert_allclose(found.visit_attention[..., 0, 0], weights[..., 0, 0], rtol=1e-5)


def test_without_a_first_token_there_are_visits_alone(without_cls):
    found = explain(saved_predictor(without_cls), histories_of([[CODES[:2], CODES[4:5]]]))
    assert found.visit_attention.shape == (2, 3, 2, 2)
    assert found.attention.shape == (2, 3, 3)


def test_risks_are_calibrated_where_the_model_is(export):
    histories = histories_of([LONG])
    plain = explain(saved_predictor(export), histories)
    warm = explain(
        saved_predictor(export, calibration=Calibration(Method.TEMPERATURE, temperature=3.0)), histories
    )
    attribution = plain.attribution
    assert (plain.risk, plain.blank_risk) == pytest.approx(
        (expit(attribution.logit), expit(attribution.blank_logit))
    )
    assert (warm.risk, warm.blank_risk) == pytest.approx(
        (expit(attribution.logit / 3), expit(attribution.blank_logit / 3))
    )


def test_explaining_leaves_the_model_as_it_is(export):
    saved = saved_predictor(export, "retain")
    before = {name: weight.clone() for name, weight in saved.predictor.state_dict().items()}
    one, other = (explain(saved, histories_of([LONG])) for _ in range(2))
    assert np.array_equal(one.contributions, other.contributions)
    after = saved.predictor.state_dict()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())
    assert all(weight.grad is None for weight in saved.predictor.parameters())


@pytest.mark.parametrize("patient", [[], [["AGE_40-49"]]])
def test_a_history_without_codes_is_refused(export, patient):
    with pytest.raises(UserError, match="nothing to explain"):
        explain(saved_predictor(export), histories_of([patient]))
