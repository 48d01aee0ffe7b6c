"""The AUROC of the true risk, which no model can exceed except by chance."""

import numpy as np


def rank_auroc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Return the AUROC. Ties count half.

    Args:
        scores: float64 `[N]`.
        positive: Labels 0 and 1, or the probabilities of 1: float64 `[N]`. For probabilities, the result is
            the expectation of the AUROC's numerator over the expectation of its denominator.

    Returns:
        The AUROC, or None if all labels are equal.
    """
    positive = np.asarray(positive, dtype=np.float64)
    _, group = np.unique(scores, return_inverse=True)
    cases = np.bincount(group, positive)
    controls = np.bincount(group, 1 - positive)
    below = np.cumsum(controls) - controls
    with_itself = (positive * (1 - positive)).sum()
    pairs = cases.sum() * controls.sum() - with_itself
    won = (cases * (below + controls / 2)).sum() - with_itself / 2
    return float(won / pairs) if pairs > 0 else None
