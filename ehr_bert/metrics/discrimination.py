"""Discrimination: how well scores rank cases above controls, computed from thresholds over the scores.

Shapes: `N` examples, `R` bootstrap replicates (columns of weights), `U` distinct scores.

Weights are the number of times that each example counts, so all replicates of a bootstrap share one sort.
They are whole numbers, which float32 represents exactly up to 16 million.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Thresholds:
    """Weights of the predicted positives at each threshold, from the highest score to the lowest.

    Attributes:
        true_positives: Weight of the cases at or above each distinct score: `[U, R]`.
        predicted_positives: Weight of all examples at or above it: `[U, R]`.
    """

    true_positives: np.ndarray
    predicted_positives: np.ndarray

    @property
    def positives(self) -> np.ndarray:
        """Weight of all cases: `[R]`."""
        return self.true_positives[-1]

    @property
    def negatives(self) -> np.ndarray:
        """Weight of all controls: `[R]`."""
        return self.predicted_positives[-1] - self.true_positives[-1]

    @property
    def false_positives(self) -> np.ndarray:
        """Weight of the controls at or above each distinct score: `[U, R]`."""
        return self.predicted_positives - self.true_positives


def thresholds(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Thresholds:
    """Sort the examples and count them above every distinct score.

    Args:
        labels: 0 or 1: `[N]`.
        scores: Higher for more probable cases: `[N]`.
        weights: `[N, R]`.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # [U]
    is_case = labels[order] == 1  # [N]
    cases_above = np.cumsum(is_case)[ends]  # [U]
    case_weights = np.cumsum(weights[order[is_case]], axis=0)  # [cases, R]
    case_weights = np.concatenate([np.zeros_like(weights[:1]), case_weights])  # [cases + 1, R]
    return Thresholds(case_weights[cases_above], np.cumsum(weights[order], axis=0)[ends])


def auroc(counts: Thresholds) -> np.ndarray:
    """Return the area under the ROC curve: `[R]`, NaN without cases or controls. Equal scores count half."""
    height = counts.true_positives.copy()
    height[1:] += counts.true_positives[:-1]
    width = np.diff(counts.false_positives, axis=0, prepend=0)
    area = np.einsum("ur,ur->r", height, width) / 2
    return ratio(area, counts.positives * counts.negatives)


def average_precision(counts: Thresholds) -> np.ndarray:
    """Return the mean precision over the cases, without interpolation: `[R]`, NaN without cases."""
    gained = np.diff(counts.true_positives, axis=0, prepend=0)  # [U, R]
    precision = counts.true_positives / np.maximum(counts.predicted_positives, 1)
    return ratio(np.einsum("ur,ur->r", gained, precision), counts.positives)


def sensitivity_at_specificity(counts: Thresholds, specificity: float) -> np.ndarray:
    """Return the sensitivity at the lowest threshold that reaches a specificity.

    Args:
        counts: Counts at each threshold.
        specificity: Minimum share of the controls below the threshold.

    Returns:
        `[R]`, NaN without cases or controls. The thresholds are the scores; nothing is interpolated.
    """
    true_negatives = counts.negatives - counts.false_positives  # [U, R]
    is_specific = true_negatives / np.maximum(counts.negatives, 1) >= specificity
    sensitivity = ratio((counts.true_positives * is_specific).max(axis=0), counts.positives)
    return np.where(counts.negatives > 0, sensitivity, np.nan)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Return `part / whole`, NaN where `whole` is 0."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0, dtype=float)
