"""How well scores tell those with the outcome from those without it, by thresholds over the scores.

    N  examples         R  replicates: columns of weights         K  distinct scores

Weights say how often each example counts, so that all replicates of a bootstrap share one sorting: whole
numbers, which float32 counts exactly up to 16 million.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Thresholds:
    """Whom each threshold takes, from the highest score to the lowest.

    Attributes:
        true_positives: Weight of the examples with the outcome at or above each distinct score: `[K, R]`.
        taken: Weight of all examples at or above it: `[K, R]`.
    """

    true_positives: np.ndarray
    taken: np.ndarray

    @property
    def positives(self) -> np.ndarray:
        """Weight of all with the outcome: `[R]`."""
        return self.true_positives[-1]

    @property
    def negatives(self) -> np.ndarray:
        """Weight of all without it: `[R]`."""
        return self.taken[-1] - self.true_positives[-1]


def thresholds(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Thresholds:
    """Cuts the examples at every distinct score.

    Args:
        labels: 0 or 1, `[N]`.
        scores: Higher where the outcome is likelier, `[N]`.
        weights: `[N, R]`.
    """
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # [K]
    positive = labels[order] == 1  # [N]
    counted = np.cumsum(positive)[ends]  # [K]
    of_positives = np.cumsum(weights[order[positive]], axis=0)  # [P, R]
    of_positives = np.concatenate([np.zeros_like(weights[:1]), of_positives])  # [P + 1, R]
    return Thresholds(of_positives[counted], np.cumsum(weights[order], axis=0)[ends])


def auroc(found: Thresholds) -> np.ndarray:
    """The area under the ROC curve; equal scores count half: `[R]`, NaN without both outcomes."""
    false_positives = found.taken - found.true_positives  # [K, R]
    height = found.true_positives.copy()
    height[1:] += found.true_positives[:-1]
    width = np.diff(false_positives, axis=0, prepend=0)
    area = np.einsum("kr,kr->r", height, width) / 2
    return ratio(area, found.positives * found.negatives)


def average_precision(found: Thresholds) -> np.ndarray:
    """Precision averaged over the outcomes found, without interpolation: `[R]`, NaN without an outcome."""
    gained = np.diff(found.true_positives, axis=0, prepend=0)  # [K, R]
    precision = found.true_positives / np.maximum(found.taken, 1)
    return ratio(np.einsum("kr,kr->r", gained, precision), found.positives)


def sensitivity_at_specificity(found: Thresholds, specificity: float) -> np.ndarray:
    """The share of outcomes found by the lowest threshold that is still this specific.

    Args:
        found: What the thresholds take.
        specificity: The least share of those without the outcome that stays below the threshold.

    Returns:
        `[R]`, NaN without both outcomes. Thresholds are the scores themselves: nothing is interpolated.
    """
    true_negatives = found.negatives - (found.taken - found.true_positives)  # [K, R]
    specific = true_negatives / np.maximum(found.negatives, 1) >= specificity
    sensitivity = ratio((found.true_positives * specific).max(axis=0), found.positives)
    return np.where(found.negatives > 0, sensitivity, np.nan)


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """`part / whole`, NaN where there is no whole."""
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0, dtype=float)
