import numpy as np
import pytest
import torch
from scipy.special import expit

from ehr_bert.metrics.calibration import Calibration, Method
from ehr_bert.prediction.encoders import bert_encoder
from ehr_bert.prediction.explaining.attention import attention_weights
from ehr_bert.prediction.explaining.explanation import explain
from ehr_bert.prediction.predictor import SavedPredictor, make_predictor
from ehr_bert.prediction.reading import ModelVocabulary, encode
from tests.prediction.small import CODES, MAX_LENGTH, histories_of
from tests.user_errors import raises_user_error

LONG = [CODES[:4], CODES[4:8], ["AGE_40-49", "ICD10_E9.77", CODES[2]], [*CODES[10:12], "SNOMED_1"]]
"""Codes of which the model does not know one, and too many codes: the first visit is not read."""


def saved_predictor(folder, head="cls", calibration=None):
    predictor = make_predictor(bert_encoder(folder, "eager"), head, seed=6)
    return SavedPredictor(predictor, ModelVocabulary.of_folder(folder), calibration, {})


def test_codes_and_visits_are_those_of_the_history(export):
    histories = histories_of([LONG])
    explanation = explain(saved_predictor(export), histories)
    assert explanation.codes.tolist() == [*CODES[4:8], "ICD10_E9.77", CODES[2], *CODES[10:12], "SNOMED_1"]
    assert explanation.read_as.tolist() == [*CODES[4:8], "ICD10_E9", CODES[2], *CODES[10:12], "[UNK]"]
    assert explanation.visits.tolist() == [2, 2, 2, 2, 3, 3, 4, 4, 4]
    assert len(explanation.codes) < MAX_LENGTH
    assert explanation.left_out == 5
    assert explanation.visit_numbers.tolist() == [2, 3, 4]
    sums = [explanation.contributions[explanation.visits == visit].sum() for visit in (2, 3, 4)]
    np.testing.assert_allclose(explanation.visit_contributions, sums)
    assert explanation.attribution.is_complete
    assert explanation.contributions.sum() == pytest.approx(explanation.attribution.contributions.sum())


def test_contributions_of_a_code_are_summed_over_its_occurrences(export):
    explanation = explain(
        saved_predictor(export), histories_of([[CODES[:2], [CODES[1]], [CODES[0], CODES[2]]]])
    )
    first, sums, counts = explanation.by_code
    assert explanation.codes[first].tolist() == CODES[:3]
    assert counts.tolist() == [2, 2, 1]
    np.testing.assert_allclose(
        sums, [explanation.contributions[explanation.codes == code].sum() for code in CODES[:3]]
    )


@pytest.mark.parametrize("head", ["cls", "gru"])
def test_attention_is_that_to_codes_and_between_visits(export, head):
    histories, saved = histories_of([LONG]), saved_predictor(export, head)
    explanation = explain(saved, histories)
    weights = attention_weights(saved.predictor.encoder, encode(histories, saved.vocabulary))
    assert explanation.from_first == (head == "cls")
    rows = weights[:, :, 0] if head == "cls" else weights.mean(axis=2)
    np.testing.assert_allclose(explanation.attention, rows[..., 1:], rtol=1e-5)
    assert explanation.visit_attention.shape == (2, 3, 4, 4)
    np.testing.assert_allclose(explanation.visit_attention[..., 0, 0], weights[..., 0, 0], rtol=1e-5)


def test_without_cls_attention_is_between_visits_only(without_cls):
    explanation = explain(saved_predictor(without_cls), histories_of([[CODES[:2], CODES[4:5]]]))
    assert explanation.visit_attention.shape == (2, 3, 2, 2)
    assert explanation.attention.shape == (2, 3, 3)


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
    with raises_user_error("nothing-to-explain"):
        explain(saved_predictor(export), histories_of([patient]))
