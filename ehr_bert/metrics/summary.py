"""All metrics of a binary prediction at once."""

import numpy as np

from ehr_bert.metrics.discrimination import auroc, thresholds
from ehr_bert.metrics.metric import METRICS, WeightedPredictions


def binary_metrics(labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return every metric of `METRICS` by key.

    Args:
        labels: 0 or 1: `[N]`.
        probabilities: Predicted probability of label 1: `[N]`.

    Returns:
        Values by key. A value is NaN where it is undefined, such as an AUROC without cases. All values are
        NaN if a label or a probability is NaN, or if there is no example.

    Example:
        >>> round(binary_metrics(np.array([0, 1, 0]), np.array([0.2, 0.7, 0.1]))["brier"], 3)
        0.047
    """
    values = weighted_metrics(labels, probabilities, np.ones((len(labels), 1)))
    return {key: float(replicates[0]) for key, replicates in values.items()}


def weighted_metrics(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> dict[str, np.ndarray]:
    """Return every metric of `METRICS` for examples that count several times or not at all.

    Args:
        labels: 0 or 1: `[N]`.
        probabilities: Predicted probability of label 1: `[N]`.
        weights: Number of times that each example counts in each replicate: `[N, R]`.

    Returns:
        Values by key: `[R]` each, NaN as in `binary_metrics`.
    """
    labels, probabilities = np.asarray(labels, float), np.asarray(probabilities, float)
    if _undefined(labels, probabilities):
        return {metric.key: np.full(weights.shape[1], np.nan) for metric in METRICS.usable().values()}
    predictions = WeightedPredictions(labels, probabilities, weights)
    return {metric.key: metric.function(predictions) for metric in METRICS.usable().values()}


def auroc_of(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the AUROC of scores, which need not be probabilities; NaN where it is undefined.

    Args:
        labels: 0 or 1: `[N]`.
        scores: Probabilities or logits: `[N]`.
    """
    labels, scores = np.asarray(labels, float), np.asarray(scores, float)
    if _undefined(labels, scores):
        return float("nan")
    return float(auroc(thresholds(labels, scores, np.ones((len(labels), 1))))[0])


def _undefined(labels: np.ndarray, scores: np.ndarray) -> bool:
    return len(labels) == 0 or bool(np.isnan(labels).any() or np.isnan(scores).any())
