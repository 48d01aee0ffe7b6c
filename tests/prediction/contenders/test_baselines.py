# Covers: ehr_bert.prediction.contenders.logistic_regression, ehr_bert.prediction.contenders.boosting
# Covers: ehr_bert.prediction.contenders.stack

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from ehr_bert.prediction.contenders.boosting import fit_boosting
from ehr_bert.prediction.contenders.logistic_regression import STRENGTHS, fit_logistic_regression
from ehr_bert.prediction.contenders.problem import Scores, SplitRows
from ehr_bert.prediction.contenders.stack import fit_stack

SIDES = SplitRows(np.arange(0, 211), np.arange(211, 317), np.arange(317, 401))


def examples(seed=0):
    """401 examples whose outcome depends on three of 13 features."""
    random = np.random.default_rng(seed)
    features = (random.random((401, 13)) < 0.3).astype(np.float32)
    log_odds = features @ np.array([2, 1, -2, *[0] * 10]) - 0.3
    return sparse.csr_array(features), (random.random(401) < 1 / (1 + np.exp(-log_odds))).astype(int)


def area(labels, scores):
    return roc_auc_score(labels, scores)


def test_the_penalty_is_the_best_on_validation():
    features, labels = examples()
    fitted = fit_logistic_regression(features, labels, SIDES)
    areas = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=2000).fit(features[SIDES.train], labels[SIDES.train])
        areas.append(area(labels[SIDES.valid], model.decision_function(features[SIDES.valid])))
    assert area(labels[SIDES.valid], fitted.valid) == pytest.approx(max(areas))
    assert fitted.chosen["inverse_penalty"] == STRENGTHS[int(np.argmax(areas))]


@pytest.mark.parametrize("fit", [fit_logistic_regression, lambda *given: fit_boosting(*given, seed=1)])
def test_a_baseline_learns_and_ignores_the_test_labels(fit):
    features, labels = examples()
    fitted = fit(features, labels, SIDES)
    assert area(labels[SIDES.test], fitted.test) > 0.65
    hidden = labels.copy()
    hidden[SIDES.test] = 1 - labels[SIDES.test]
    again = fit(features, hidden, SIDES)
    assert (again.test == fitted.test).all()
    assert (again.valid == fitted.valid).all()


def scores(log_odds, noise, seed):
    random = np.random.default_rng(seed)
    return Scores(*(side + random.normal(0, noise, len(side)) for side in log_odds), chosen={})


def test_the_stack_is_better_than_two_informative_models():
    random = np.random.default_rng(0)
    log_odds = [random.normal(0, 1.5, size) for size in (500, 3001)]
    valid, test = ((random.random(len(side)) < 1 / (1 + np.exp(-side))).astype(int) for side in log_odds)
    neural, linear = scores(log_odds, 1.5, 1), scores(log_odds, 1.5, 2)
    stacked = fit_stack(neural, [linear], valid)
    assert area(test, stacked.test) > max(area(test, neural.test), area(test, linear.test)) + 0.02


def test_the_stack_uses_the_best_linear_model_and_gives_noise_little_weight():
    random = np.random.default_rng(0)
    log_odds = [random.normal(0, 1.5, size) for size in (500, 301)]
    valid = (random.random(500) < 1 / (1 + np.exp(-log_odds[0]))).astype(int)
    noise, good = scores(log_odds, 99, 1), scores(log_odds, 0.5, 2)
    fitted = fit_stack(noise, [noise, good], valid)
    assert fitted.chosen["linear_weight"] > 5 * abs(fitted.chosen["neural_weight"])
