"""The figures of a binary prediction."""

import numpy as np

from ehr_bert.metrics.discrimination import (
    auroc,
    average_precision,
    ratio,
    sensitivity_at_specificity,
    thresholds,
)
from ehr_bert.metrics.recalibration import calibration_intercept, calibration_slope

METRICS = (
    "auroc",
    "average_precision",
    "brier",
    "calibration_slope",
    "calibration_intercept",
    "sensitivity_at_specificity",
)
"""The keys of `binary_metrics`."""

SPECIFICITY = 0.95
"""At which sensitivity is told, by default."""


def binary_metrics(
    labels: np.ndarray, probabilities: np.ndarray, specificity: float = SPECIFICITY
) -> dict[str, float]:
    """How good the predicted risks are.

    Args:
        labels: 0 or 1, `[N]`.
        probabilities: Of label 1, `[N]`.
        specificity: At which sensitivity is told.

    Returns:
        A value for each of `METRICS`, NaN where it isn't defined: where all labels are equal, and all of them
        where a label or a probability is NaN.
    """
    weights = np.ones((len(labels), 1))
    weighed = weighted_metrics(labels, probabilities, weights, specificity)
    return {name: float(values[0]) for name, values in weighed.items()}


def weighted_metrics(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, specificity: float = SPECIFICITY
) -> dict[str, np.ndarray]:
    """The same where examples count several times or not at all.

    Args:
        labels: 0 or 1, `[N]`.
        probabilities: Of label 1, `[N]`.
        weights: How often each example counts in each replicate, `[N, R]`.
        specificity: At which sensitivity is told.

    Returns:
        For each of `METRICS`, `[R]`.
    """
    labels, probabilities = np.asarray(labels, float), np.asarray(probabilities, float)
    if len(labels) == 0 or np.isnan(labels).any() or np.isnan(probabilities).any():
        return {name: np.full(weights.shape[1], np.nan) for name in METRICS}
    found = thresholds(labels, probabilities, weights)
    return {
        "auroc": auroc(found),
        "average_precision": average_precision(found),
        "brier": ratio((probabilities - labels) ** 2 @ weights, found.taken[-1]),
        "calibration_slope": calibration_slope(labels, probabilities, weights),
        "calibration_intercept": calibration_intercept(labels, probabilities, weights),
        "sensitivity_at_specificity": sensitivity_at_specificity(found, specificity),
    }
