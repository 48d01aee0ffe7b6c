"""Weighted random choices from many groups of items at once."""

from collections.abc import Sequence

import numpy as np


class Choices:
    """Groups of weighted items. Items are numbered through all groups, and each draw is from one group.

    Args:
        weights: Weights of the items of each group, not all 0.
    """

    def __init__(self, weights: Sequence[np.ndarray]) -> None:
        totals = [np.cumsum(group) for group in weights]
        # Group g covers the interval from g to g + 1, so that one search finds the items of all groups.
        self._bounds = np.concatenate([number + total / total[-1] for number, total in enumerate(totals)])

    def draw(self, groups: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
        """Return the items at `quantiles` in [0, 1) of `groups`, in the same shape: int64."""
        inside = np.minimum(groups + quantiles, np.nextafter(groups + 1.0, 0))  # the sum can round up
        return np.searchsorted(self._bounds, inside, side="right")
