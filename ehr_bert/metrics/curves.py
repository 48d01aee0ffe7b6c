"""Points of the curves that are drawn of a binary prediction."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import precision_recall_curve as _precision_recall
from sklearn.metrics import roc_curve as _roc


@dataclass(frozen=True)
class Curve:
    """Points to be joined.

    Attributes:
        x: `[K]`.
        y: `[K]`.
    """

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class CalibrationBins:
    """Examples in groups of about equal size by rising probability: `K` groups.

    Attributes:
        predicted: The mean probability of each, `[K]`.
        observed: The share with the outcome, `[K]`.
        examples: How many each holds, `[K]`.
    """

    predicted: np.ndarray
    observed: np.ndarray
    examples: np.ndarray


def roc_curve(labels: np.ndarray, probabilities: np.ndarray) -> Curve:
    """Sensitivity over 1 - specificity.

    Args:
        labels: 0 and 1, `[N]`.
        probabilities: `[N]`.
    """
    false_positive_rate, sensitivity, _ = _roc(labels, probabilities)
    return Curve(false_positive_rate, sensitivity)


def precision_recall_curve(labels: np.ndarray, probabilities: np.ndarray) -> Curve:
    """Precision over recall, recall rising.

    Args:
        labels: 0 and 1, `[N]`.
        probabilities: `[N]`.
    """
    precision, recall, _ = _precision_recall(labels, probabilities)
    return Curve(recall[::-1], precision[::-1])


def calibration_bins(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> CalibrationBins:
    """Outcomes observed beside those predicted, in quantiles of the probability.

    Args:
        labels: 0 or 1, `[N]`.
        probabilities: `[N]`.
        bins: How many groups at most; equal probabilities stay together, so there may be fewer.
    """
    edges = np.quantile(probabilities, np.linspace(0, 1, bins + 1)[1:-1])
    group = np.searchsorted(edges, probabilities, side="left")  # [N]
    examples = np.bincount(group, minlength=bins)
    filled = examples > 0
    predicted, observed = (np.bincount(group, each, bins)[filled] for each in (probabilities, labels))
    examples = examples[filled]
    return CalibrationBins(predicted / examples, observed / examples, examples)
