"""The metrics of a binary prediction that come with the package."""

import numpy as np

from ehr_bert.metrics.discrimination import auroc, average_precision, ratio, sensitivity_at_specificity
from ehr_bert.metrics.metric import CALIBRATION, DISCRIMINATION, Metric, WeightedPredictions
from ehr_bert.metrics.recalibration import calibration_intercept, calibration_slope

SPECIFICITY = 0.95
"""Specificity at which the sensitivity is reported."""


def _brier(predictions: WeightedPredictions) -> np.ndarray:
    squared_errors = (predictions.probabilities - predictions.labels) ** 2
    return ratio(squared_errors @ predictions.weights, predictions.total)


AUROC = Metric("auroc", "AUROC", "largest", DISCRIMINATION, lambda predictions: auroc(predictions.thresholds))

AVERAGE_PRECISION = Metric(
    "average_precision",
    "average precision",
    "largest",
    DISCRIMINATION,
    lambda predictions: average_precision(predictions.thresholds),
)

BRIER = Metric("brier", "Brier score", "smallest", CALIBRATION, _brier)

CALIBRATION_SLOPE = Metric(
    "calibration_slope",
    "calibration slope",
    1.0,
    CALIBRATION,
    lambda predictions: calibration_slope(predictions.labels, predictions.probabilities, predictions.weights),
)

CALIBRATION_INTERCEPT = Metric(
    "calibration_intercept",
    "calibration intercept",
    0.0,
    CALIBRATION,
    lambda predictions: calibration_intercept(
        predictions.labels, predictions.probabilities, predictions.weights
    ),
)

SENSITIVITY_AT_SPECIFICITY = Metric(
    "sensitivity_at_specificity",
    f"sensitivity at {SPECIFICITY:.0%} specificity",
    "largest",
    DISCRIMINATION,
    lambda predictions: sensitivity_at_specificity(predictions.thresholds, SPECIFICITY),
)
