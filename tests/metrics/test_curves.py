# Covers: ehr_bert.metrics.curves, ehr_bert.metrics.net_benefit
import numpy as np
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import auc, roc_auc_score

from ehr_bert.metrics.curves import calibration_bins, precision_recall_curve, roc_curve
from ehr_bert.metrics.net_benefit import decision_curve


def predictions(examples=203):
    random = np.random.default_rng(3)
    probabilities = random.random(examples)
    return (random.random(examples) < probabilities).astype(float), probabilities


def test_the_area_under_the_curve_is_the_auroc():
    labels, probabilities = predictions()
    curve = roc_curve(labels, probabilities)
    assert auc(curve.x, curve.y) == pytest.approx(roc_auc_score(labels, probabilities))


def test_precision_ends_at_the_prevalence():
    labels, probabilities = predictions()
    curve = precision_recall_curve(labels, probabilities)
    assert (np.diff(curve.x) >= 0).all()
    assert (curve.x[-1], curve.y[-1]) == pytest.approx((1, labels.mean()))


def test_bins_equal_those_of_scikit_learn():
    labels, probabilities = predictions()
    bins = calibration_bins(labels, probabilities, 7)
    observed, predicted = calibration_curve(labels, probabilities, n_bins=7, strategy="quantile")
    assert bins.observed == pytest.approx(observed)
    assert bins.predicted == pytest.approx(predicted)
    assert bins.examples.sum() == len(labels)
    assert np.ptp(bins.examples) <= 1


def test_equal_probabilities_are_in_one_bin():
    bins = calibration_bins(np.array([0, 1, 1]), np.full(3, 0.4))
    assert (bins.predicted, bins.observed) == (pytest.approx([0.4]), pytest.approx([2 / 3]))


def test_net_benefit_follows_its_definition():
    labels, probabilities = predictions()
    threshold = np.array([0, 0.1, 0.35, 0.99])
    curve = decision_curve(labels, probabilities, threshold)
    for at, model, everyone in zip(threshold, curve.model, curve.everyone, strict=True):
        treated = probabilities >= at
        assert model == pytest.approx(np.mean(treated * (labels - (1 - labels) * at / (1 - at))))
        assert everyone == pytest.approx(np.mean(labels - (1 - labels) * at / (1 - at)))
    assert curve.model[0] == pytest.approx(labels.mean())
