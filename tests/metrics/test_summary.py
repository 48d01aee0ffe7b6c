# Covers: ehr_bert.metrics.summary, ehr_bert.metrics.discrimination, ehr_bert.metrics.recalibration
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from ehr_bert.metrics.discrimination import sensitivity_at_specificity, thresholds
from ehr_bert.metrics.metric import METRICS
from ehr_bert.metrics.recalibration import calibration_intercept, calibration_slope
from ehr_bert.metrics.summary import auroc_of, binary_metrics, weighted_metrics


def predictions(examples=301, seed=0, decimals=2):
    """Labels, overconfident probabilities with many ties, and how often each counts in 3 replicates."""
    random = np.random.default_rng(seed)
    log_odds = random.normal(-1, 1, examples)
    labels = (random.random(examples) < expit(log_odds)).astype(float)
    probabilities = expit(1.5 * log_odds + random.normal(0.2, 0.5, examples)).round(decimals)
    return labels, probabilities, random.poisson(1, (examples, 3)).astype(float)


def sensitivity(labels, probabilities, specificity, weights=None):
    false_positive, true_positive, _ = roc_curve(
        labels, probabilities, sample_weight=weights, drop_intermediate=False
    )
    return true_positive[1 - false_positive >= specificity - 1e-12].max()


@pytest.mark.parametrize("decimals", [1, 9])
def test_metrics_equal_those_of_scikit_learn(decimals):
    labels, probabilities, _ = predictions(decimals=decimals)
    metrics = binary_metrics(labels, probabilities)
    assert tuple(metrics) == tuple(METRICS)
    assert metrics["auroc"] == pytest.approx(roc_auc_score(labels, probabilities), abs=1e-12)
    assert metrics["average_precision"] == pytest.approx(
        average_precision_score(labels, probabilities), abs=1e-12
    )
    assert metrics["brier"] == pytest.approx(brier_score_loss(labels, probabilities), abs=1e-12)
    assert metrics["sensitivity_at_specificity"] == sensitivity(labels, probabilities, 0.95)
    assert auroc_of(labels, probabilities) == metrics["auroc"]


def test_sensitivity_at_another_specificity_equals_that_of_scikit_learn():
    labels, probabilities, _ = predictions()
    counts = thresholds(labels, probabilities, np.ones((len(labels), 1)))
    assert sensitivity_at_specificity(counts, 0.9) == [sensitivity(labels, probabilities, 0.9)]


def test_weighted_metrics_equal_those_of_scikit_learn():
    labels, probabilities, weights = predictions()
    metrics = weighted_metrics(labels, probabilities, weights)
    for replicate, weight in enumerate(weights.T):
        expected = {
            "auroc": roc_auc_score(labels, probabilities, sample_weight=weight),
            "average_precision": average_precision_score(labels, probabilities, sample_weight=weight),
            "brier": brier_score_loss(labels, probabilities, sample_weight=weight),
            "sensitivity_at_specificity": sensitivity(labels, probabilities, 0.95, weight),
        }
        for name, value in expected.items():
            assert metrics[name][replicate] == pytest.approx(value, abs=1e-12), name


def test_weights_count_as_repeated_examples_do():
    labels, probabilities, weights = predictions()
    metrics = weighted_metrics(labels, probabilities, weights)
    for replicate, weight in enumerate(weights.T.astype(int)):
        repeated = binary_metrics(labels.repeat(weight), probabilities.repeat(weight))
        assert {name: values[replicate] for name, values in metrics.items()} == pytest.approx(
            repeated, abs=1e-7
        )


def test_single_precision_is_enough_for_replicates():
    labels, probabilities, weights = predictions(examples=5000)
    exact = weighted_metrics(labels, probabilities, weights)
    for name, values in weighted_metrics(labels, probabilities, weights.astype(np.float32)).items():
        assert values == pytest.approx(exact[name], abs=1e-4), name


def test_the_calibration_slope_is_that_of_a_logistic_regression_on_the_logit():
    labels, probabilities, weights = predictions(decimals=9)
    log_odds = np.log(probabilities / (1 - probabilities))
    slopes = calibration_slope(labels, probabilities, weights)
    for slope, weight in zip(slopes, weights.T, strict=True):
        fitted = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
        fitted.fit(log_odds[:, None], labels, sample_weight=weight)
        assert slope == pytest.approx(fitted.coef_[0, 0], abs=1e-5)
        assert slope < 1


def test_the_calibration_intercept_makes_the_mean_risk_that_observed():
    labels, probabilities, weights = predictions()
    intercepts = calibration_intercept(labels, probabilities, weights)
    probabilities = np.clip(probabilities, 1e-7, 1 - 1e-7)
    log_odds = np.log(probabilities / (1 - probabilities))
    for intercept, weight in zip(intercepts, weights.T, strict=True):
        risk = expit(log_odds + intercept)
        assert np.average(risk, weights=weight) == pytest.approx(np.average(labels, weights=weight), abs=1e-9)
    assert binary_metrics(np.array([1, 0, 0, 0]), np.full(4, 1e-6))["calibration_intercept"] == pytest.approx(
        np.log(1 / 3) - np.log(1e-6), abs=1e-5
    )


def test_calibrated_risks_have_slope_1_and_intercept_0():
    random = np.random.default_rng(5)
    probabilities = random.random(40_000)
    metrics = binary_metrics(random.random(40_000) < probabilities, probabilities)
    assert metrics["calibration_slope"] == pytest.approx(1, abs=0.03)
    assert metrics["calibration_intercept"] == pytest.approx(0, abs=0.04)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
def test_the_brier_score_is_defined_for_equal_labels(labels):
    metrics = binary_metrics(np.array(labels), np.array([0.2, 0.3, 0.9]))
    assert {name for name, value in metrics.items() if not np.isnan(value)} <= {"brier", "average_precision"}


@pytest.mark.parametrize(
    ("labels", "probabilities"),
    [([0, 0, 1, 1], [0.1, 0.2, 0.2, 0.4]), ([1, 0], [0.1, 0.2]), ([0, 1, 1], [0.3, 0.3, 0.3])],
)
def test_a_slope_that_is_not_finite_is_nan(labels, probabilities):
    assert np.isnan(binary_metrics(np.array(labels), np.array(probabilities))["calibration_slope"])


def test_no_examples_have_no_metrics():
    assert np.isnan(list(binary_metrics(np.array([]), np.array([])).values())).all()


@pytest.mark.parametrize(("labels", "risk"), [([0, 1, 1], np.nan), ([0, 1, np.nan], 0.4)])
def test_a_nan_makes_all_metrics_nan(labels, risk):
    metrics = binary_metrics(np.array(labels), np.array([0.1, risk, 0.9]))
    assert np.isnan(list(metrics.values())).all()


@given(
    labels=arrays(bool, 13),
    scores=arrays(float, 13, elements=st.integers(0, 4).map(float)),
    weights=arrays(float, (13, 2), elements=st.integers(0, 3).map(float)),
)
def test_the_auroc_is_the_share_of_pairs_in_the_right_order(labels, scores, weights):
    metrics = weighted_metrics(labels, scores / 4, weights)["auroc"]
    wins = (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)  # [13, 13]
    pairs = labels[:, None] & ~labels
    for value, weight in zip(metrics, weights.T, strict=True):
        counted = pairs * weight[:, None] * weight
        if counted.sum() == 0:
            assert np.isnan(value)
        else:
            assert value == pytest.approx((wins * counted).sum() / counted.sum(), abs=1e-12)
