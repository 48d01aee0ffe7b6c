# Covers: ehr_bert.prediction.multitask.task_type
import warnings

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import (
    average_precision_score,
    mean_absolute_error,
    r2_score,
    roc_auc_score,
)

from ehr_bert.metrics.bootstrap import bootstrap, bootstrap_difference
from ehr_bert.prediction.multitask import multilabel
from ehr_bert.prediction.multitask.multilabel import MULTILABEL
from ehr_bert.prediction.multitask.regression import REGRESSION
from ehr_bert.prediction.multitask.task_type import task_type
from ehr_bert.prediction.multitask.visits import VISITS
from ehr_bert.schemas import TaskKind

N, CODES, R = 53, 3, 4


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def weights(rng):
    drawn = rng.integers(0, 3, (N, R)).astype(np.float32)
    drawn[:, 0] = 1
    return drawn


def scikit_learns(labels, scores, weight):
    return {
        "auroc": roc_auc_score(labels, scores, sample_weight=weight),
        "average_precision": average_precision_score(labels, scores, sample_weight=weight),
    }


def test_codes_are_measured_as_scikit_learn_does(rng, weights, monkeypatch):
    monkeypatch.setattr(multilabel, "_CELLS", N * CODES * 3)
    labels = (rng.random((N, CODES)) < (0.2, 0.5, 0.7)).astype(np.float32)
    scores = np.round(rng.random((N, CODES)) + 0.3 * labels, 1)
    metrics = MULTILABEL.metrics(labels, scores, weights)
    for replicate, weight in enumerate(weights.T):
        flat = scikit_learns(labels.ravel(), scores.ravel(), weight.repeat(CODES))
        columns = [scikit_learns(labels[:, code], scores[:, code], weight) for code in range(CODES)]
        for name, value in flat.items():
            assert metrics[f"micro_{name}"][replicate] == pytest.approx(value)
            expected = np.mean([column[name] for column in columns])
            assert metrics[f"macro_{name}"][replicate] == pytest.approx(expected)


def test_a_code_without_cases_is_left_out_of_the_mean(rng, weights):
    labels = (rng.random((N, CODES)) < 0.4).astype(np.float32)
    scores = rng.random((N, CODES))
    labels[:, 1] = 0
    metrics = MULTILABEL.metrics(labels, scores, weights)["macro_auroc"]
    expected = MULTILABEL.metrics(labels[:, [0, 2]], scores[:, [0, 2]], weights)["macro_auroc"]
    np.testing.assert_allclose(metrics, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(MULTILABEL.metrics(np.zeros((N, CODES)), scores, weights)["macro_auroc"]).all()


def test_numbers_are_measured_as_scikit_learn_and_scipy_do(rng, weights):
    labels = np.round(rng.normal(40, 9, N), -1)
    predictions = np.round(labels + rng.normal(0, 9, N), -1)
    metrics = REGRESSION.metrics(labels[:, None], predictions[:, None], weights)
    for replicate, weight in enumerate(weights.T):
        drawn = np.repeat(np.arange(N), weight.astype(int))
        assert metrics["r2"][replicate] == pytest.approx(r2_score(labels[drawn], predictions[drawn]))
        error = mean_absolute_error(labels[drawn], predictions[drawn])
        assert metrics["mean_absolute_error"][replicate] == pytest.approx(error)
        expected = spearmanr(labels[drawn], predictions[drawn]).statistic
        assert metrics["spearman"][replicate] == pytest.approx(expected)


def test_constant_predictions_have_no_correlation(weights):
    metrics = REGRESSION.metrics(np.arange(N)[:, None], np.ones((N, 1)), weights)
    assert np.isnan(metrics["spearman"]).all()
    assert (metrics["r2"] < 0).all()


def test_visits_are_measured_over_known_labels_and_drawn_by_example(rng, weights):
    labels = (rng.random((N, 5)) < 0.4).astype(np.float32)
    labels[rng.random((N, 5)) < 0.3] = np.nan
    scores = rng.random((N, 5))
    known = ~np.isnan(labels)
    metrics = VISITS.metrics(labels, scores, weights)["auroc"]
    for replicate, weight in enumerate(weights.T):
        label_weights = np.broadcast_to(weight[:, None], labels.shape)[known]
        expected = roc_auc_score(labels[known], scores[known], sample_weight=label_weights)
        assert metrics[replicate] == pytest.approx(expected)


@pytest.mark.parametrize("kind", TaskKind)
def test_every_kind_has_intervals_and_no_difference_from_itself(kind, rng):
    labels = rng.normal(size=(N, 2)) if kind == TaskKind.REGRESSION else rng.random((N, 2)) < 0.5
    labels = labels.astype(np.float32)
    predictions = np.clip(rng.random((2, N, 2)) + 0.1 * labels, 0.01, 0.99)
    patients = rng.integers(0, 20, N)
    options = {"replicates": 50, "patients": patients, "metrics": task_type(kind).metrics}
    for interval in bootstrap(labels, predictions, **options).values():
        assert interval.low <= interval.value <= interval.high
    for difference in bootstrap_difference(labels, predictions, predictions, **options).values():
        assert (difference.low, difference.value, difference.high) == (0, 0, 0)
