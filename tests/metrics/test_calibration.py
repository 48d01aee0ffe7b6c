import json

import numpy as np
import pytest
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from ehr_bert.metrics.calibration import Calibration, Method, fit_calibration
from ehr_bert.metrics.summary import binary_metrics
from tests.user_errors import raises_user_error


def overconfident(examples=3000):
    random = np.random.default_rng(2)
    log_odds = random.normal(0, 1.2, examples)
    return 2.5 * log_odds, (random.random(examples) < expit(log_odds)).astype(float)


def test_the_temperature_has_the_smallest_cross_entropy():
    logits, labels = overconfident()
    calibration = fit_calibration(logits, labels)
    assert calibration.temperature == pytest.approx(2.5, rel=0.1)
    scaled = logits[:, None] / (calibration.temperature * np.array([0.99, 1, 1.01]))
    losses = np.mean(np.logaddexp(0, scaled) - labels[:, None] * scaled, axis=0)
    assert losses.argmin() == 1


def test_platt_finds_slope_and_shift():
    logits, labels = overconfident()
    calibration = fit_calibration(0.01 * logits - 4, labels, "platt")
    after = binary_metrics(labels, calibration.probabilities(0.01 * logits - 4))
    assert after["calibration_slope"] == pytest.approx(1, abs=0.01)
    assert after["calibration_intercept"] == pytest.approx(0, abs=0.01)


def test_platt_scaling_of_few_cases_gives_no_extreme_risks():
    logits, labels = np.arange(9.0), (np.arange(9) > 6).astype(float)
    risks = fit_calibration(logits, labels, "platt").probabilities(logits)
    assert 0.001 < risks.min() < 0.1
    assert 0.5 < risks.max() < 0.95


def test_platt_scaling_never_reverses_the_order():
    logits, labels = overconfident(200)
    calibration = fit_calibration(-logits, labels, "platt")
    assert calibration.temperature > 0
    assert calibration.shift == 0


def test_isotonic_risks_equal_those_of_scikit_learn():
    logits, labels = overconfident(101)
    calibration = fit_calibration(logits, labels, "isotonic")
    least = 1 / 103
    expected = IsotonicRegression(y_min=least, y_max=1 - least, out_of_bounds="clip").fit(logits, labels)
    other = np.linspace(-20, 20, 57)
    assert calibration.probabilities(other) == pytest.approx(expected.predict(other), abs=1e-12)
    assert calibration.probabilities(other).min() > 0


@pytest.mark.parametrize("method", Method)
def test_calibrated_risks_are_better(method):
    logits, labels = overconfident()
    before = binary_metrics(labels, expit(logits))
    after = binary_metrics(labels, fit_calibration(logits, labels, method).probabilities(logits))
    assert after["brier"] < before["brier"]
    assert abs(after["calibration_slope"] - 1) < 0.1 < abs(before["calibration_slope"] - 1)


def test_a_temperature_keeps_the_order():
    logits, labels = overconfident(100)
    risks = fit_calibration(logits, labels).probabilities(logits)
    assert binary_metrics(labels, risks)["auroc"] == binary_metrics(labels, expit(logits))["auroc"]


@pytest.mark.parametrize("method", Method)
def test_a_calibration_survives_json(method):
    calibration = fit_calibration(*overconfident(50), method)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_equal_labels_give_finite_risks():
    for method in Method:
        risks = fit_calibration(np.array([0.1, -0.3, 2.0]), np.zeros(3), method).probabilities(np.zeros(2))
        assert np.isfinite(risks).all()


def test_an_unknown_method_is_refused():
    with raises_user_error("unknown-calibration", "beta", "temperature, platt, isotonic"):
        fit_calibration(np.zeros(2), np.zeros(2), "beta")


@pytest.mark.parametrize("values", [{}, {"method": "beta"}, {"method": "isotonic"}])
def test_invalid_parameters_are_refused(values):
    with raises_user_error("invalid-calibration"):
        Calibration.from_dict(values)
