"""Points of the curves that are plotted for a binary prediction."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import precision_recall_curve as _precision_recall
from sklearn.metrics import roc_curve as _roc


@dataclass(frozen=True)
class Curve:
    """Points of a curve.

    Attributes:
        x: Horizontal coordinates.
        y: Vertical coordinates.
    """

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class CalibrationBins:
    """Groups of about equal size by ascending probability.

    Attributes:
        predicted: Mean probability of each group.
        observed: Share of cases in each group.
        examples: Number of examples in each group.
    """

    predicted: np.ndarray
    observed: np.ndarray
    examples: np.ndarray


def roc_curve(labels: np.ndarray, probabilities: np.ndarray) -> Curve:
    """Return sensitivity over 1 - specificity.

    Args:
        labels: 0 or 1: `[N]`.
        probabilities: Predicted probability of label 1: `[N]`.
    """
    false_positive_rate, sensitivity, _ = _roc(labels, probabilities)
    return Curve(false_positive_rate, sensitivity)


def precision_recall_curve(labels: np.ndarray, probabilities: np.ndarray) -> Curve:
    """Return precision over recall, in ascending order of recall.

    Args:
        labels: 0 or 1: `[N]`.
        probabilities: Predicted probability of label 1: `[N]`.
    """
    precision, recall, _ = _precision_recall(labels, probabilities)
    return Curve(recall[::-1], precision[::-1])


def calibration_bins(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> CalibrationBins:
    """Return predicted and observed risks in quantile groups of the probability.

    Args:
        labels: 0 or 1: `[N]`.
        probabilities: Predicted probability of label 1: `[N]`.
        bins: Maximum number of groups. Equal probabilities are in one group, so there may be fewer.
    """
    edges = np.quantile(probabilities, np.linspace(0, 1, bins + 1)[1:-1])
    group = np.searchsorted(edges, probabilities, side="left")  # [N]
    examples = np.bincount(group, minlength=bins)
    filled = examples > 0
    predicted, observed = (np.bincount(group, values, bins)[filled] for values in (probabilities, labels))
    examples = examples[filled]
    return CalibrationBins(predicted / examples, observed / examples, examples)
