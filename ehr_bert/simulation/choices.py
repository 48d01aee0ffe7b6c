"""Weighted choices in many groups of items at once."""

from collections.abc import Sequence

import numpy as np


class Choices:
    """Groups of weighted items, counted through all groups; each draw is from one group.

    Args:
        weights: For each group the weights of its items, not all 0.
    """

    def __init__(self, weights: Sequence[np.ndarray]) -> None:
        totals = [np.cumsum(group) for group in weights]
        # Group g fills the interval from g to g + 1, so that one search serves every group.
        self._bounds = np.concatenate([number + total / total[-1] for number, total in enumerate(totals)])

    def draw(self, groups: np.ndarray, quantiles: np.ndarray) -> np.ndarray:
        """The items at `quantiles` in [0, 1) of `groups`: int64 of their shape."""
        inside = np.minimum(groups + quantiles, np.nextafter(groups + 1.0, 0))  # the sum can round up
        return np.searchsorted(self._bounds, inside, side="right")
